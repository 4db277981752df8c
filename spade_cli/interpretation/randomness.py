"""Random numbers of our own: seeded inside a `with`, and the caller's left as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and numpy's global generator, which captum and lucent draw from; restore both afterwards."""
    devices = [device] if device.type == "cuda" else []
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # numpy takes 32 bits
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
