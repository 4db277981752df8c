"""What all libraries need: build a network quietly, from a seed, with a checkpoint's number of classes."""

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
def mute_libraries() -> Iterator[None]:
    """Hide warnings about defaults that our users cannot set, and a hub's log of its attempts."""
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        for handler in set(logging.root.handlers) - set(handlers):  # logging.warning() adds one, even where it is mute:
            logging.root.removeHandler(handler)  # open_clip calls it, and every line of ours would come twice


@contextmanager
def seed_weights(seed: int) -> Iterator[None]:
    """Draw untrained weights from the seed; afterwards torch draws as if none had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def count_classes_in(state: Mapping[str, Tensor], network: nn.Module, classes: int) -> int:
    """The number of classes of a checkpoint, where the network has `classes`.

    It is the number of rows of the network's last parameter that has one row a class.
    """
    head = [key for key, value in network.state_dict().items() if value.dim() and value.shape[0] == classes]
    return state[head[-1]].shape[0] if head and head[-1] in state and state[head[-1]].dim() else classes


def import_library(name: str, asked: str, extra: str | None = None) -> ModuleType:
    """An optional library. Where it is not installed, UserError gives the command that installs it."""
    try:
        with mute_libraries():
            return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{asked} needs {name}, which cannot be imported ({error_line(error)}); "
            f"pip install 'spade-cli[{extra or name}]'"
        ) from None
