"""A network in eval mode for a while, its own modes put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode; every module's own mode comes back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()  # what it returns is the user's own: some return None
        yield model
    finally:
        for module, training in modes:
            module.training = training
