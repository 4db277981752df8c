"""samples -> hessians: one pass of the network or several, and where the statistics are kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of, uses_bfloat16
from spade_cli.models import Classifier
from spade_cli.networks.fingerprint import fingerprint
from spade_cli.pruning import Statistics, collect
from spade_cli.pruning.hessian import bytes_of, run_batches
from spade_cli.pruning.keep_statistics import FORMAT, Store
from spade_cli.pruning.layers import layer_modules


@dataclass(frozen=True)
class Calibration:
    """How the statistics of the layers are measured."""

    rows_per_column: int | None = 32  # observations per column of a Hessian; None: every position of every sample
    batch_size: int = 32
    memory: float = inf  # bytes of Hessians at a time
    save: Path | None = None  # folder where statistics are kept and looked for
    precision: str = "auto"  # of the forward pass: auto, float32 or bfloat16


@dataclass(frozen=True)
class SampleBatches:
    """The samples as the network takes them: normalised, on its device, in batches, as often as they are read."""

    samples: Tensor  # uint8 (samples, 3, h, w)
    classifier: Classifier
    batch_size: int

    def __iter__(self) -> Iterator[Tensor]:
        device = device_of(self.classifier.model)
        for batch in torch.split(self.samples, self.batch_size):
            yield self.classifier.preprocessing.normalise(batch.to(device).float() / 255)


def find_store(classifier: Classifier, samples: Tensor, calibration: Calibration, seed: int) -> Store | None:
    """The folder that keeps the statistics of these samples (samples, 3, h, w); None where none are kept."""
    if calibration.save is None:
        return None
    model = classifier.model
    state, device = model.state_dict(), device_of(model)
    how = asdict(classifier.preprocessing) | {
        "rows_per_column": calibration.rows_per_column,
        "batch_size": calibration.batch_size,
        "bfloat16": uses_bfloat16(calibration.precision, device),
        "device": device.type,
        "seed": seed,
        "model": repr(model),
        "weights": list(state),
        # A forward of the user's own can change while its modules and weights do not.
        "answer": [round(value, 2) for value in _answer_first(classifier, samples)],
    }
    return Store(calibration.save, fingerprint(FORMAT, [samples, *state.values()], how))


@torch.no_grad()
def _answer_first(classifier: Classifier, samples: Tensor) -> list[float]:
    """The logits of the first sample."""
    (batch,) = SampleBatches(samples[:1], classifier, 1)
    logits: list[float] = classifier.model(batch).flatten().tolist()
    return logits


def run_samples(
    classifier: Classifier, samples: Tensor, calibration: Calibration, on_batch: Callable[[int], None] | None = None
) -> Tensor:
    """Logits (samples, classes) of uint8 (samples, 3, h, w), in the batches and precision of a calibration."""
    batches = SampleBatches(samples, classifier, calibration.batch_size)
    return run_batches(classifier.model, batches, precision=calibration.precision, on_batch=on_batch)


def calibrate(
    classifier: Classifier,
    samples: Tensor,
    names: Sequence[str],
    calibration: Calibration,
    seed: int,
    store: Store | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Statistics:
    """The statistics of the named layers: the store's where it has them, the others by one pass of the network.

    samples: uint8 (samples, 3, h, w). `on_batch` hears of every image of the pass. Raises UserError for a damaged
    file, SpadeError for one that cannot be written.
    """
    known = store.read(names) if store is not None else None
    missing = [name for name in names if known is None or name not in known.observations]
    device = device_of(classifier.model)
    there = {} if known is None else {name: hessian.to(device) for name, hessian in known.hessians.items()}
    if known is not None and not missing:
        if on_batch is not None:
            on_batch(len(samples))
        return Statistics(there, known.observations, known.logits)
    found = collect(
        classifier.model,
        SampleBatches(samples, classifier, calibration.batch_size),
        missing,
        samples=len(samples),
        rows_per_column=calibration.rows_per_column,
        seed=seed,
        precision=calibration.precision,
        on_batch=on_batch,
    )
    if store is not None:
        store.write(found, missing)
    observations = {} if known is None else known.observations
    return Statistics({**there, **found.hessians}, {**observations, **found.observations}, found.logits)


def split_passes(model: nn.Module, names: Sequence[str], memory: float) -> list[list[str]]:
    """The names in order, in parts whose Hessians fit into `memory` bytes; a layer that never fits is alone."""
    modules = layer_modules(model)
    parts: list[list[str]] = [[]]
    used = 0
    for name in names:
        needed = bytes_of(modules[name])
        if parts[-1] and used + needed > memory:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += needed
    return parts
