"""Where a network runs."""

import torch
from torch import nn

from spade_cli.errors import UserError


def device_of(model: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def pick_device(wanted: str) -> torch.device:
    """auto, cpu, cuda, cuda:N or mps -> a device that is there. Raises UserError otherwise."""
    if wanted == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UserError(f"device={wanted} is unknown: choose auto, cpu, cuda, cuda:N or mps") from error
    _require(
        device.type in ("cpu", "cuda", "mps"),
        f"device={wanted} is not supported: choose auto, cpu, cuda, cuda:N or mps",
    )
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    _require(
        (device.index or 0) < there,
        f"device={wanted} is not there ({there} {device.type} devices found): choose another or device=auto",
    )
    return device


def _require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise UserError(otherwise)
