"""Layer-wise relevance propagation: where relevance goes, and by which rule."""
