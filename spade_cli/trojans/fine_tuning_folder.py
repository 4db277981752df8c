"""The folder of a fine-tuning: checked before it is written to, and resumed from its checkpoint."""

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
    """Raise UserError unless the folder is new, empty, or of a fine-tuning."""
    check_folder(out, (REPORT, CHECKPOINT), "fine-tuning")


def read_report(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report of a finished fine-tuning, or None. Raises UserError where it is of another one."""
    if not (out / REPORT).is_file():
        return None
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        theirs = report["identity"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"out={out}: its {REPORT} cannot be read ({error!r}); give another folder") from None
    _compare(out, theirs, identity)
    (out / CHECKPOINT).unlink(missing_ok=True)  # of a run that was killed after it wrote its report
    finished: dict[str, Any] = report
    return finished


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Write the report, and remove the checkpoint."""
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_whole(out / REPORT, lambda path: path.write_text(text, encoding="utf-8"))
    (out / CHECKPOINT).unlink()


def load_checkpoint(
    out: Path, identity: Mapping[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the checkpoint, if there is one; the steps done, and their seconds. Raises as `read_report` does."""
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


def save_checkpoint(
    out: Path,
    identity: Mapping[str, Any],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Replace the checkpoint."""
    state = {
        "identity": json.dumps(identity),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    write_whole(out / CHECKPOINT, lambda path: torch.save(state, path))


def _compare(out: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    compare_settings(str(out), _flatten_settings(theirs), _flatten_settings(ours), "fine-tuning")


def _flatten_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their names on the command line, and the rest beside them."""
    rest = {key: value for key, value in identity.items() if key != "settings"}
    return {**identity.get("settings", {}), **rest}
