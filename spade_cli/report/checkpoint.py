"""trace.safetensors: a network's state dict with its sparse weights as a mask and the values that are left.

Every tensor of the state dict is there, so the file stands alone: "dense/KEY" as it is, or "mask/KEY" (bits, packed
eight to a byte, row-major) with
"values/KEY" (what is not zero, in order). The metadata names each sparse tensor's shape.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.files import write_whole

FORMAT = "spade trace 1"
CHECKPOINT = "trace.safetensors"


def save_trace(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict; a tensor is stored sparse where that is smaller: a bit per weight against the zeros saved."""
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for key, value in state.items():
        value = value.detach().cpu().contiguous()
        kept = value != 0
        saved = int((~kept).sum()) * value.element_size()
        if value.is_floating_point() and saved > value.numel() / 8:
            tensors[f"mask/{key}"] = torch.from_numpy(np.packbits(kept.numpy().reshape(-1)))
            tensors[f"values/{key}"] = value[kept]
            shapes[key] = list(value.shape)
        else:
            tensors[f"dense/{key}"] = value.clone()  # safetensors refuses tensors that share memory
    # Written by us: safetensors' own save_file makes files that only their owner can read.
    path.write_bytes(save(tensors, {"format": FORMAT, "shapes": json.dumps(shapes)}))


def load_trace(path: Path) -> dict[str, Tensor]:
    """The plain, dense state dict of a trace.safetensors. Raises UserError where the file is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(
                    f"{path} is not a spade trace but {metadata.get('format', 'other tensors')}; "
                    "give a folder that spade run wrote"
                )
            return _unpack({name: file.get_tensor(name) for name in file.keys()}, metadata)  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:  # damaged or tampered
        raise UserError(
            f"{path} cannot be read as a spade trace ({error}); give a folder that spade run wrote"
        ) from error


def _unpack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    shapes = json.loads(metadata["shapes"])
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kind, key = name.split("/", 1)
        if kind == "dense":
            state[key] = tensor
        elif kind == "mask":
            values = tensors[f"values/{key}"]
            count = math.prod(shapes[key])
            kept = np.unpackbits(tensor.numpy(), count=count).astype(bool)
            dense = values.new_zeros(count)
            dense[torch.from_numpy(kept)] = values
            state[key] = dense.reshape(shapes[key])
    return state


def export(run: Path, out: Path) -> None:
    """Write a run's trace as a plain state dict, .safetensors or torch's format; `out` appears whole or not at all."""
    state = load_trace(run / CHECKPOINT)
    if out.suffix == ".safetensors":
        write_whole(out, lambda path: path.write_bytes(save(state, {"format": "pt"})))
    else:
        write_whole(out, lambda path: torch.save(state, path))
