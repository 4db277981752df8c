"""One run, in the order of the paper's figure: image -> samples -> hessians -> trace -> explanations -> report."""
