"""Does the trace explain better than the dense network, by how much, and is that luck? Measures and the experiment."""
