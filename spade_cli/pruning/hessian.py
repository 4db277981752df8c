"""samples -> hessians: one pass of the dense network collects every layer's second moments.

H = 2/n X X^T, the Hessian of a layer's squared reconstruction error ||W' X - W X||^2 / n in any row of W' (OBC, arXiv
2208.11580, section 3). Axes as in layers.py: g groups, c columns, n observations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from zlib import crc32

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of, forward_precision, full_precision
from spade_cli.networks.calls import Call, watch_calls
from spade_cli.networks.modes_and_seeds import eval_mode
from spade_cli.pruning.layers import input_matrix, layer_modules, weight_matrix
from spade_cli.pruning.solvers.damped_hessian import MOST_DENSE, Hessian, LowRank

GATHER_BYTES = 256 * 2**20  # of the patches gathered at once where all positions are asked for
# Columns from which a Hessian is not formed (4096 x 4096 is a quarter of a second, VGG16's 25088 squared are 2.5 GB),
# where there are fewer observations than a quarter of them; of layers too wide for any Hessian no more are taken.
WIDE, FEW = 8192, 0.25
MOST_OBSERVATIONS = 1024  # then; a solver factorises as many rows and columns for every output
STRIP = 1024  # columns of a Hessian computed at once: half of a symmetric product need not be


@dataclass(frozen=True)
class Statistics:
    """What one pass of the dense network over the samples leaves behind."""

    hessians: dict[str, Hessian]  # layer name -> (g, c, c); a layer that never ran is absent
    observations: dict[str, int]  # layer name -> n
    logits: Tensor  # (samples, classes), on the CPU
    gradients: Mapping[str, Tensor] = field(default_factory=dict)  # layer name -> (g, r, c), for pruners that take them


@torch.no_grad()
def collect(
    model: nn.Module,
    batches: Iterable[Tensor],
    names: Iterable[str],
    *,
    samples: int,
    rows_per_column: int | None = 32,
    seed: int = 0,
    precision: str = "float32",
    on_batch: Callable[[int], None] | None = None,
) -> Statistics:
    """Run the dense model once over all samples and accumulate H for the named layers.

    `batches` yields normalised (N, 3, H, W) on the model's device, `samples` images in all. `rows_per_column`
    observations are drawn per column of H, spread evenly over the samples (None: every position of every sample).
    `precision` is that of the forward pass: float32, bfloat16 or auto (bfloat16 where the processor computes with it);
    products are summed in float32 in any case. Memory does not grow with the number of samples.
    """
    modules = layer_modules(model)
    weights = {name: modules[name].weight for name in names}
    totals = {name: _Total(weight_matrix(modules[name]).shape[-1]) for name in weights}
    # One generator a layer: what is drawn for it does not depend on which other layers are calibrated.
    generators = {name: torch.Generator().manual_seed(seed + crc32(name.encode())) for name in weights}
    by_weight = {id(weight): name for name, weight in weights.items()}  # of tied layers, every one's calls are counted
    batch_images = 0

    def count_images() -> Iterator[Tensor]:
        nonlocal batch_images
        for batch in batches:
            batch_images = len(batch)
            yield batch

    def add_inputs(weight: Tensor, call: Call) -> None:
        if (name := by_weight.get(id(weight))) is None:
            return
        total = totals[name]
        wanted = None if rows_per_column is None else -(-rows_per_column * total.columns * batch_images // samples)
        if total.columns > MOST_DENSE:
            most = -(-MOST_OBSERVATIONS * batch_images // samples)
            wanted = most if wanted is None else min(wanted, most)
        call = replace(call, x=call.x.detach().float())
        for part in (call,) if wanted is not None else _split_call(call):
            total.add(input_matrix(part, wanted, generators[name]))  # (g, n, c)

    logits = run_batches(model, count_images(), precision=precision, on_batch=on_batch, on_call=add_inputs)
    hessians = {name: total.hessian() for name, total in totals.items() if total.observations}
    return Statistics(hessians, {name: totals[name].observations for name in hessians}, logits)


@torch.no_grad()
def run_batches(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    precision: str = "float32",
    on_batch: Callable[[int], None] | None = None,
    on_call: Callable[[Tensor, Call], None] = lambda weight, call: None,
) -> Tensor:
    """The forward pass over samples: logits (samples, classes) on the CPU, in float32.

    Batches as in `collect`. `on_batch` hears how many images each had, `on_call` of every product with a weight.
    torch's fused attention is always off (see `watch_calls`): what two networks answer is compared to the last digit.
    """
    logits = []
    with eval_mode(model), full_precision(), forward_precision(precision, device_of(model)), watch_calls(on_call):
        for batch in batches:
            # Channels last is how the kernels of a CPU, and tensor cores, want it; the values are the same.
            batch = batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch
            logits.append(model(batch).float().cpu())
            if on_batch is not None:
                on_batch(len(batch))
    return torch.cat(logits)


class _Total:
    """The second moments of a layer's inputs so far, or the inputs themselves while they are few beside the columns."""

    def __init__(self, columns: int) -> None:
        self.columns, self.observations = columns, 0
        self.products: Tensor | None = None  # (g, c, c), the upper triangle in strips
        self.inputs: list[Tensor] = []  # (g, n, c) each

    def add(self, inputs: Tensor) -> None:
        """Count in some observations, (g, n, c)."""
        self.observations += inputs.shape[1]
        if self.columns >= WIDE and (self.observations < FEW * self.columns or self.columns > MOST_DENSE):
            self.inputs.append(inputs.clone())  # it may be the network's own memory
            return
        if self.products is None:
            self.products = inputs.new_zeros(inputs.shape[0], self.columns, self.columns)
        for part in [*self.inputs, inputs]:
            for start in range(0, self.columns, STRIP):
                strip = part[:, :, start : start + STRIP].transpose(1, 2)  # (g, STRIP, n)
                self.products[:, start : start + STRIP, start:].baddbmm_(strip, part[:, :, start:])
        self.inputs = []

    def hessian(self) -> Hessian:
        """2/n X X^T of all observations."""
        if self.products is None:
            inputs = torch.cat(self.inputs, 1)
            return LowRank(inputs.mul_((2 / self.observations) ** 0.5), inputs.new_zeros(len(inputs)))
        for start in range(STRIP, self.columns, STRIP):
            self.products[:, start : start + STRIP, :start] = self.products[:, :start, start : start + STRIP].mT
        return self.products.mul_(2 / self.observations)


def bytes_of(module: nn.Module) -> int:
    """What a layer's statistics take in memory, in bytes."""
    groups, _, columns = weight_matrix(module).shape
    return groups * columns * min(columns, MOST_OBSERVATIONS if columns > MOST_DENSE else columns) * 4


def _split_call(call: Call) -> Iterator[Call]:
    """The call in parts whose patches, all positions of them, fit into GATHER_BYTES."""
    kernel = 1 if call.kernel is None else call.kernel[0] * call.kernel[1]
    patches = kernel * call.x[0].numel() * call.x.element_size()  # of one image, at stride 1
    for x in call.x.split(max(1, GATHER_BYTES // max(1, patches))):
        yield replace(call, x=x)
