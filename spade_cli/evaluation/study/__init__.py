"""What a class neuron shows, as people or a reader made of networks see it: the tasks, the page, the answers."""
