"""Where a network runs, and in which precision."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spade_cli.errors import UserError

# Lines of /proc/cpuinfo, on x86 and on ARM, that choose the code which multiplies matrices.
CPU_FIELDS = ("cpu family", "model", "stepping", "cache size", "flags", "Features", "CPU implementer", "CPU part")


def device_of(model: nn.Module) -> torch.device:
    """The device of the network's weights."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def pick_device(wanted: str) -> torch.device:
    """auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps. Raises UserError for a missing device."""
    if wanted == "auto":  # mps only when asked for: it lacks float64, and not every method has been tried there
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = torch.device("meta")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device.type not in there:
        raise UserError(f"device={wanted} is unknown: choose auto, cpu, cuda, cuda:N or mps")
    found = there[device.type]
    if (device.index or 0) >= found:
        raise UserError(
            f"device={wanted} is not there ({found} {device.type} devices found): choose another or device=auto"
        )
    return device


def name_processor(device: torch.device) -> str:
    """What computes, as exactly as it can be told: another processor may round the same numbers differently."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    told = [device.type, platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability()]
    with suppress(OSError):  # not Linux
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
        told += [line for line in first.splitlines() if line.startswith(CPU_FIELDS)]
    return "\n".join(told)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor has instructions for bfloat16; without them it is emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private to torch (seen in 2.6 to 2.14); where torch no longer has them, the answer is no.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)


@contextmanager
def forward_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Forward passes in float32, in bfloat16 (where torch's autocast allows it), or in the faster of both (auto)."""
    with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(precision, device)):
        yield


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether `precision` (auto, float32 or bfloat16) means bfloat16 on this device."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 on CUDA: the rounding of its 10-bit mantissa is larger than the damping of a well-conditioned Hessian."""
    if not torch.cuda.is_available():
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    old: list[tuple[Any, str, Any]] = [(matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]
    new = [(part, "fp32_precision", "ieee") for part in (matmul, getattr(cudnn, "conv", None))]
    # torch >= 2.9 has the new switches, and refuses a mix of both.
    switches = new if all(hasattr(part, name) for part, name, _ in new) else old
    before = [getattr(part, name) for part, name, _ in switches]
    try:
        for part, name, exact in switches:
            setattr(part, name, exact)
        yield
    finally:
        for (part, name, _), value in zip(switches, before, strict=True):
            setattr(part, name, value)
