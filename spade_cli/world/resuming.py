"""The folder of a fine-tuning while it goes on: whose it is, how far it came, and every file whole or not there."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spade_cli.errors import SpadeError, UserError

REPORT, CHECKPOINT = "trojans.json", "checkpoint.pt"
PART = ".part"  # behind the name of what is not whole yet


def check_folder(out: Path) -> None:
    """Only a new or empty folder, or one of a fine-tuning, is written to: `out` may hold work of the user's own."""
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out} is a file; give a folder")
    if not out.exists() or (out / REPORT).is_file() or (out / CHECKPOINT).is_file():
        return
    if [path for path in out.iterdir() if path.suffix != PART]:
        raise UserError(f"out={out} holds other files; give a new folder, or the one of a run to go on with")


def finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report, where the fine-tuning came to its end. Raises UserError where it was another one."""
    if not (out / REPORT).is_file():
        return None
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        theirs = report["identity"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"out={out}: its {REPORT} cannot be read ({error!r}); give another folder") from None
    _compare(out, theirs, identity)
    return report


def go_on(
    out: Path, identity: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the checkpoint, if there is one: the steps done and the seconds they took. Raises as `finished` does."""
    if not (out / CHECKPOINT).is_file():
        return 0, 0.0
    try:
        state = torch.load(out / CHECKPOINT, map_location="cpu", weights_only=True)
        theirs = json.loads(state["identity"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError):
        raise UserError(f"out={out}: its {CHECKPOINT} cannot be read; delete it to start anew") from None
    _compare(out, theirs, identity)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


def save(
    out: Path,
    identity: Mapping[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write a checkpoint in the place of the last."""
    state = {
        "identity": json.dumps(identity),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    write_whole(out / CHECKPOINT, lambda path: torch.save(state, path))


def write_whole(path: Path, write: Callable[[Path], object], part: str = PART) -> None:
    """Write a file beside `path` under one fixed name and rename it: a kill leaves the old file and no litter.

    `part`: what that name ends in; processes that write the same file need one each.
    """
    beside = path.with_name(path.name + part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        beside.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's word for a full disk
        raise SpadeError(f"cannot write {path}: {error}; give another folder or free some space") from error


def _compare(out: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    there, here = _flat(theirs), _flat(json.loads(json.dumps(ours)))
    other = [key for key in (*here, *there) if here.get(key) != there.get(key)]
    if other:
        key = other[0]
        raise UserError(
            f"out={out} is of another fine-tuning: {key} is {there.get(key)} there and {here.get(key)} here; "
            "give the same, or another folder"
        )


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings beside the rest, by the names they have on the command line."""
    rest = {key: value for key, value in identity.items() if key != "settings"}
    return {**identity.get("settings", {}), **rest}
