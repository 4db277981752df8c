"""samples -> hessians -> trace where the shares are found by trying, for one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError
from spade_cli.models import Classifier
from spade_cli.networks.borrow import ask_network
from spade_cli.progress import Stages
from spade_cli.pruning import Auto, Draft, Judge, Layer, Pruner, Search, Statistics, Trace, blocks
from spade_cli.run.calibrate import Calibration, Samples, calibrate, passes, store_for

JUDGED = 16  # samples that the difference from the dense network is measured on: enough to order settings


@dataclass(frozen=True)
class Subject:
    """What a trace has to keep: the dense network's answer to one image.

    x: (1, 3, size, size) normalised, on the device. logits: (classes,), of the dense network. target: index of a class.
    """

    x: Tensor
    logits: Tensor
    target: int


@torch.no_grad()
def subject_of(classifier: Classifier, image: Tensor, target: str | int | None = None) -> Subject:
    """What the network says about an image, uint8 (3, H, W), and the class asked about: None the likeliest one.

    Raises UserError for a class that there is not, SpadeError for an answer that nothing can be measured on.
    """
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(image).to(device_of(classifier.model)))
    logits = ask_network(classifier.model, x)[0].float().cpu()
    check_finite(logits, classifier)
    return Subject(x, logits, int(logits.argmax()) if target is None else classifier.class_index(target))


def check_finite(logits: Tensor, classifier: Classifier) -> None:
    """Raises SpadeError for an answer (classes,) that nothing can be measured on."""
    if not torch.isfinite(logits).all():
        raise SpadeError(
            f"model={classifier.name}: it answers this image with NaN or infinite values; check its weights, "
            "model.mean and model.std"
        )


def find_trace(
    classifier: Classifier,
    copies: Tensor,
    subject: Subject,
    layers: Sequence[Layer],
    auto: Auto,
    pruner: Pruner,
    damping: float,
    calibration: Calibration,
    seed: int,
    stages: Stages,
) -> Trace:
    """One calibration of the late layers that fit into memory together, then the search; copies uint8 (n, 3, s, s)."""
    names = measured(classifier, auto, calibration.memory)
    store = store_for(classifier, copies, calibration, seed)
    with stages.stage("calibrate", total=len(copies)) as advance:
        statistics = calibrate(classifier, copies, names, calibration, seed, store, advance)
    judge = judge_of(classifier, copies, subject, statistics)
    search = search_of(classifier, layers, auto, statistics, judge, pruner, damping)
    with stages.stage("prune", total=search.most) as advance:
        search.on_trial = lambda _: advance(1)
        return search.trace()


def measured(classifier: Classifier, auto: Auto, memory: float) -> list[str]:
    """The layers whose statistics a search needs: what is fixed, and the last candidates, as many as fit."""
    fixed = [name for name, share in auto.fixed.items() if share > 0]
    late = [name for name in reversed(auto.candidates) if name not in auto.fixed]
    return passes(classifier.model, [*fixed, *late], memory)[0]


def judge_of(classifier: Classifier, copies: Tensor, subject: Subject, statistics: Statistics) -> Judge:
    """Judges by the image, and by the first of the samples."""
    samples = list(Samples(copies[:JUDGED], classifier, JUDGED))
    return Judge(subject.x, subject.logits, subject.target, samples, statistics.logits[:JUDGED], classifier.output)


def search_of(
    classifier: Classifier,
    layers: Sequence[Layer],
    auto: Auto,
    statistics: Statistics,
    judge: Judge,
    pruner: Pruner,
    damping: float,
) -> Search:
    """A search that nothing was tried in yet."""
    draft = Draft(classifier.model, layers, statistics, pruner, damping)
    return Search(draft, candidates(layers, auto, statistics), auto, judge)


def candidates(layers: Sequence[Layer], auto: Auto, statistics: Statistics) -> dict[str, tuple[str, ...]]:
    """Blocks of layers whose shares are free and that have statistics."""
    free = {name for name in auto.candidates if name in statistics.hessians and name not in auto.fixed}
    kept = {block: tuple(name for name in names if name in free) for block, names in blocks(layers).items()}
    return {block: names for block, names in kept.items() if names}
