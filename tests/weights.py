"""Weights of a small network in a file: saved, read back, refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import small

from spade_cli.errors import UserError
from spade_cli.models.checkpoints import load_weights, read_state_dict

RAN = Path("ran")  # a file that code in a checkpoint would make
State = dict[str, torch.Tensor]


def other(seed: int = 7) -> State:
    """Weights of `small` that differ from its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in small().state_dict().items()
    }


def behind(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def read(content: Any, folder: Path, name: str = "w.ckpt", ema: bool | None = None) -> tuple[State, tuple[str, ...]]:
    """What a network gets of a file with this content, and the notes."""
    torch.save(content, folder / name)
    return loaded(folder / name, ema)


def loaded(path: Path, ema: bool | None = None) -> tuple[State, tuple[str, ...]]:
    network = small()
    state, notes = read_state_dict(path, network, ema)
    load_weights(network, state, "weights", "small")
    return network.state_dict(), notes


def same(found: State, wanted: State) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def refused(content: Any, folder: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        read(content, folder)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    return message
