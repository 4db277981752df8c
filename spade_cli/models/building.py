"""What every library's networks are built with: quietly, from a seed, and for the classes of a checkpoint."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError, error_line


@contextmanager
def quiet() -> Iterator[None]:
    """Builders warn about defaults of theirs that no user can set, and hubs tell each of their attempts."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Untrained weights are drawn from the seed; the caller's random numbers go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def classes_in(state: Mapping[str, Tensor], network: nn.Module, classes: int) -> int:
    """How many classes a checkpoint has, for a network of `classes`: rows of the last parameter with one a class."""
    head = [key for key, value in network.state_dict().items() if value.dim() and value.shape[0] == classes]
    return state[head[-1]].shape[0] if head and head[-1] in state and state[head[-1]].dim() else classes


def library(name: str, asked: str, extra: str | None = None) -> ModuleType:
    """An optional library. UserError where it is not installed, with the command that installs it."""
    try:
        with quiet():
            return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{asked} needs {name}, which cannot be imported ({error_line(error)}); "
            f"pip install 'spade-cli[{extra or name}]'"
        ) from None
