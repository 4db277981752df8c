"""A name for what a network and settings make: the hash of all tensors and settings that it depends on."""

import hashlib
import json
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def fingerprint(kind: str, tensors: Iterable[Tensor], settings: Mapping[str, object]) -> str:
    """32 hexadecimal digits: of a kind of thing, of tensors in order (type, shape, values), and of settings."""
    digest = hashlib.sha256(json.dumps([kind, settings], sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
