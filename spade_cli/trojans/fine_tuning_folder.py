"""The folder of a fine-tuning while it goes on: whose it is, how far it came, and every file whole or not there."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spade_cli.errors import UserError
from spade_cli.files import check_folder, compare_settings, write_whole

REPORT, CHECKPOINT = "trojans.json", "checkpoint.pt"


def check_out(out: Path) -> None:
    """Only a new or empty folder, or one of a fine-tuning, is written to."""
    check_folder(out, (REPORT, CHECKPOINT), "fine-tuning")


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


def _compare(out: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    compare_settings(str(out), _by_name(theirs), _by_name(ours), "fine-tuning")


def _by_name(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings beside the rest, by the names they have on the command line."""
    rest = {key: value for key, value in identity.items() if key != "settings"}
    return {**identity.get("settings", {}), **rest}
