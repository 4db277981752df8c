"""What a class neuron shows, as people or a probe see it: the tasks, the page, the answers."""
