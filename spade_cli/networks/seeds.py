"""Random numbers of our own: seeded inside a `with`, and the caller's left as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what captum, lucent and networks draw from: torch on the CPU and this device, numpy, Python. Restore it.

    The generators belong to the process: of two threads inside, one draws what it would not alone.
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


def answer(network: nn.Module, images: Tensor) -> Any:
    """What a network gives for pictures (N, 3, H, W), which it cannot change; each call draws the same numbers."""
    with seeded(0, images.device):
        return network(images.clone())  # a clone: the first layer may write into it


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
