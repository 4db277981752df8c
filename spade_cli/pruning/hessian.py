"""samples -> hessians: one pass of the dense network collects every layer's second moments.

H = 2/n X X^T, the Hessian of a layer's squared reconstruction error ||W' X - W X||^2 / n in any row of W' (OBC, arXiv
2208.11580, section 3). Axes as in layers.py: g groups, c columns, n observations.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from spade_cli.devices import full_precision
from spade_cli.errors import SpadeError
from spade_cli.pruning.layers import block_of, input_matrix, weight_matrix

DAMPING_STEP = (
    10.0  # a failed factorisation is retried with ten times the damping: few retries, and never 100 times too much
)
DAMPING_LEAST = 1e-8  # where escalation starts when no damping was asked for: the rounding of float32
DAMPING_MOST = 1e3  # beyond this the Hessian is its own diagonal and something else is wrong

GATHER_BYTES = 256 * 2**20  # of the patches gathered at once where all positions are asked for


@dataclass(frozen=True)
class Statistics:
    """What one pass of the dense network over the samples leaves behind."""

    hessians: dict[str, Tensor]  # layer name -> (g, c, c); a layer that never ran is absent
    observations: dict[str, int]  # layer name -> n
    logits: Tensor  # (samples, classes), on the CPU


@contextmanager
def borrowed(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode; every module's own mode comes back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Iterable[Tensor],
    names: Iterable[str],
    *,
    samples: int,
    rows_per_column: int | None = 16,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Statistics:
    """Run the dense model once over all samples and accumulate H for the named layers.

    `batches` yields normalised (N, 3, H, W) on the model's device, `samples` images in all. `rows_per_column`
    observations are drawn per column of H, spread evenly over the samples (None: every position of every sample).
    Memory does not grow with the number of samples.
    """
    modules = dict(model.named_modules())
    sums: dict[str, Tensor] = {}
    observations: dict[str, int] = {}
    batch_images = 0

    def watch(name: str) -> Callable[..., None]:
        columns = weight_matrix(modules[name]).shape[-1]
        # One generator a layer: what is drawn for it does not depend on which other layers are calibrated.
        generator = torch.Generator().manual_seed(seed + crc32(name.encode()))

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            x = (args[0] if args else kwargs["input"]).detach().float()
            wanted = None if rows_per_column is None else -(-rows_per_column * columns * batch_images // samples)
            for part in (x,) if wanted is not None else _bites(module, x):
                inputs = input_matrix(module, part, wanted, generator)  # (g, n, c)
                if name not in sums:
                    sums[name] = inputs.new_zeros(inputs.shape[0], columns, columns)
                    observations[name] = 0
                sums[name].baddbmm_(inputs.transpose(1, 2), inputs)
                observations[name] += inputs.shape[1]

        return hook

    hooks = [modules[name].register_forward_hook(watch(name), with_kwargs=True) for name in names]
    logits = []
    try:
        with borrowed(model), full_precision():
            for batch in batches:
                batch_images = len(batch)
                logits.append(model(batch).float().cpu())
                if on_batch is not None:
                    on_batch(batch_images)
    finally:
        for hook in hooks:
            hook.remove()
    hessians = {name: total.mul_(2 / observations[name]) for name, total in sums.items()}
    return Statistics(hessians, observations, torch.cat(logits))


def _bites(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """The batch in parts whose patches, all positions of them, fit into GATHER_BYTES."""
    patches = block_of(module) * x[0].numel() * x.element_size()  # of one image, at stride 1
    return x.split(max(1, GATHER_BYTES // max(1, patches)))


def damp(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """Add `damping` x mean diagonal to each group's diagonal, ten times more until every group has a Cholesky factor.

    hessian (g, c, c) -> the positive definite (g, c, c) and the damping that was needed, relative to the mean diagonal
    of the group (of all groups, for one that saw only zeros). Raises SpadeError where nothing helps: infinite or NaN
    entries.
    """
    if not torch.isfinite(hessian).all():
        raise SpadeError("its inputs hold infinite or NaN values, so it has no Hessian; check the network's weights")
    mean = hessian.diagonal(dim1=1, dim2=2).mean(1)  # (g,)
    mean = torch.where(mean > 0, mean, mean.mean())
    amount = damping
    while amount <= max(damping, DAMPING_MOST):
        damped = hessian.clone()
        damped.diagonal(dim1=1, dim2=2).add_(amount * mean[:, None])
        if not torch.linalg.cholesky_ex(damped).info.any():
            return damped, amount
        amount = max(amount * DAMPING_STEP, DAMPING_LEAST)
    raise SpadeError(f"its Hessian has no Cholesky factor even with damping {max(damping, DAMPING_MOST):g}")


def relative_error(weight: Tensor, pruned: Tensor, hessian: Tensor) -> float:
    """||W' X - W X||^2 / ||W X||^2 of one layer from its (undamped) Hessian; 0 where both are 0.

    weight, pruned (g, r, c), hessian (g, c, c).
    """
    change = pruned - weight
    lost = ((change @ hessian) * change).double().sum()
    total = ((weight @ hessian) * weight).double().sum()
    return float(lost / total) if float(total) > 0 else 0.0
