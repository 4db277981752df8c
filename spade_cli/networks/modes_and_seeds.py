"""What a forward pass may change, put back by a `with`: modes, buffers, and the process's random numbers."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode inside the `with`; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()  # its return value is not used: a user's own eval() may return None
        yield model
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def restore_buffers(network: nn.Module) -> Iterator[None]:
    """Inside the `with`, calls may change buffers and modes; afterwards buffers are as before, and eval mode is on."""
    state = {name: value.detach().clone() for name, value in network.named_buffers()}
    yield
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(state.get(name, value))
    network.eval()


@contextmanager
def seed_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch on the CPU and this device, numpy and Python; afterwards they go on as if nothing had been drawn.

    captum, lucent and networks draw from them. They belong to the process: two threads inside disturb each other.
    """
    generators = generators_of(device)
    states = [generator.get_state() for generator in generators]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        for generator in generators:  # one by one: torch.manual_seed would seed devices that nobody restores
            generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # numpy takes 32 bits
        random.seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def generators_of(device: torch.device) -> list[torch.Generator]:
    """What torch draws from: the CPU's generator, and this device's own where it has one."""
    found = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # there are no generators before
        index = torch.cuda.current_device() if device.index is None else device.index
        found.append(torch.cuda.default_generators[index])
    elif device.type == "mps":
        found.append(torch.mps._get_default_mps_generator())  # private to torch (seen in 2.14)
    return found


def ask_network(network: Callable[[Tensor], Any], images: Tensor) -> Any:
    """The network's output for images (N, 3, H, W), which it cannot change; each call draws the same random numbers."""
    with seed_generators(0, images.device):
        return network(images.clone())  # a clone: the first layer may write into it
