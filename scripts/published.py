"""The published procedures, transcribed plainly from their definitions, for the benchmarks to compare with.

Exact OBS as in OBC (arXiv 2208.11580, section 4): every row's inverse Hessian is kept and updated at each removal, and
the weights after every number of removals are stored, for a budget over all rows. FastSPADE's solver as in SparseGPT
(arXiv 2301.00774, algorithm 1). Statistics as in SPADE (arXiv 2310.04519): every layer's inputs unfolded, all positions
of all samples, one sample augmented at a time. All in float32, as published; counts are exact, where the published code
removes one weight more.
r rows, c columns, k weights of a unit, u units of a row.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def exact_obs(weight: Tensor, hessian: Tensor, sparsity: float, unit: int) -> Tensor:
    """weight (r, c), hessian (c, c) positive definite -> (r, c); units are runs of `unit` columns."""
    rows, columns = weight.shape
    units = columns // unit
    at = torch.arange(rows)
    w = weight.clone()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian)).repeat(rows, 1, 1)  # (r, c, c)
    gone = torch.zeros(rows, units, dtype=torch.bool)
    losses = torch.zeros(rows, units)
    stored = torch.zeros(units + 1, rows, columns)
    stored[0] = w
    identity = torch.eye(unit)
    for step in range(units):
        if unit == 1:
            scores = w.square() / inverse.diagonal(dim1=1, dim2=2)
        else:
            blocks = inverse.view(rows, units, unit, units, unit).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
            inverted = torch.linalg.inv(torch.where(gone[:, :, None, None], identity, blocks))  # (r, u, k, k)
            grouped = w.view(rows, units, unit)
            scores = torch.einsum("rui,ruij,ruj->ru", grouped, inverted, grouped)
        scores[gone] = torch.inf
        best = scores.argmin(1)
        losses[:, step] = scores[at, best]
        if unit == 1:
            scale = inverse[at, best, best].sqrt()[:, None]
            pivot = inverse[at, best] / scale  # (r, c)
            w -= pivot * w[at, best, None] / scale
            inverse -= pivot[:, :, None] * pivot[:, None, :]
        else:
            rows_of_unit = inverse.view(rows, units, unit, columns)[at, best]  # (r, k, c)
            adjusted = inverted[at, best] @ rows_of_unit
            w -= (w.view(rows, units, unit)[at, best][:, None] @ adjusted)[:, 0]
            inverse -= rows_of_unit.transpose(1, 2) @ adjusted
        gone[at, best] = True
        w.view(rows, units, unit)[gone] = 0
        stored[step + 1] = w
    removed = round(rows * units * sparsity)
    cheapest = losses.cummax(1).values.flatten().argsort(stable=True)[:removed]
    counts = torch.bincount(cheapest // units, minlength=rows)  # (r,)
    return stored[counts, at]


def fast_spade(weight: Tensor, hessian: Tensor, sparsity: float, block: int, lazy_width: int = 128) -> Tensor:
    """weight (r, c), hessian (c, c) positive definite -> (r, c); the mask is chosen per `block` columns."""
    w = weight.clone()
    columns = w.shape[1]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    wide = max(1, lazy_width // block) * block
    for start in range(0, columns, wide):
        end = min(start + wide, columns)
        part, own = w[:, start:end].clone(), upper[start:end, start:end]
        kept, errors = torch.zeros_like(part), torch.zeros_like(part)
        lost = torch.zeros_like(part, dtype=torch.bool)
        for j in range(end - start):
            if j % block == 0:
                scores = part[:, j : j + block].square() / own.diagonal()[j : j + block].square()
                ordered = scores.flatten().sort().values
                count = round(len(ordered) * sparsity)
                if count:
                    lost[:, j : j + block] = scores <= ordered[count - 1]
            kept[:, j] = part[:, j].masked_fill(lost[:, j], 0)
            errors[:, j] = (part[:, j] - kept[:, j]) / own[j, j]
            part[:, j:] -= errors[:, j, None] * own[j, j:]
        w[:, start:end] = kept
        w[:, end:] -= errors @ upper[start:end, end:]
    return w


@torch.no_grad()
def statistics(model: nn.Module, batches: Iterable[Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """2/n X X^T of the named linear layers and ungrouped convolutions, (c, c) each, every position unfolded."""
    modules = dict(model.named_modules())
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def add(name: str, module: nn.Module, x: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            x = F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride).transpose(1, 2)
        x = x.reshape(-1, x.shape[-1])  # (n, c)
        sums[name] = sums.get(name, 0) + x.T @ x
        counts[name] = counts.get(name, 0) + len(x)

    hooks = [
        modules[name].register_forward_hook(lambda module, x, _, name=name: add(name, module, x[0])) for name in names
    ]
    for batch in batches:
        model(batch)
    for hook in hooks:
        hook.remove()
    return {name: total * (2 / counts[name]) for name, total in sums.items()}
