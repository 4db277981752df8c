"""samples -> hessians -> traces, by one record of settings: the shares are given, or they are found for each image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError
from spade_cli.models import Classifier
from spade_cli.models.questions import Target, find_question
from spade_cli.networks.modes_and_seeds import ask_network, seed_generators
from spade_cli.networks.question import Question
from spade_cli.progress import Stages
from spade_cli.pruning import (
    Auto,
    Draft,
    HeadSearch,
    Judge,
    Layer,
    OtherTraces,
    Pruning,
    Search,
    Statistics,
    Trace,
    blocks,
    prune,
)
from spade_cli.pruning.gradients import measure_gradients
from spade_cli.pruning.schedule import Shares
from spade_cli.pruning.solvers.pruner import can
from spade_cli.run.calibrate import SampleBatches, calibrate, find_store, split_passes
from spade_cli.run.trace_settings import TraceSettings

JUDGED = 16  # samples that the difference from the dense network is measured on: enough to order settings


@dataclass(frozen=True)
class Answer:
    """What the dense network says about one image: a trace is to keep it.

    x: (1, 3, h, w) normalised, on the device. logits: (classes,), on the CPU. question: what is asked about.
    """

    x: Tensor
    logits: Tensor
    question: Question

    @property
    def target(self) -> int:
        """Index of the class that is asked about."""
        return self.question.index


@dataclass(frozen=True)
class CalibratedImage:
    """One image, and what a pass of the dense network over its samples left: all that a trace of it is made from."""

    classifier: Classifier  # dense
    layers: Sequence[Layer]
    samples: Tensor  # uint8 (samples, 3, h, w)
    answer: Answer
    statistics: Statistics


@torch.no_grad()
def read_answer(classifier: Classifier, image: Tensor, target: Target | None = None) -> Answer:
    """The answer to an image, uint8 (3, H, W), and the question that `target` asks: None why the likeliest class.

    Raises UserError for what cannot be asked, SpadeError for an answer that nothing can be measured on.
    """
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(image).to(device_of(classifier.model)))
    logits = ask_network(classifier.model, x)[0].float().cpu()
    check_finite(logits, classifier)
    return Answer(x, logits, find_question(target, classifier, logits))


def check_finite(logits: Tensor, classifier: Classifier) -> None:
    """Raises SpadeError for an answer (classes,) that nothing can be measured on."""
    if not torch.isfinite(logits).all():
        raise SpadeError(
            f"model={classifier.name}: it answers this image with NaN or infinite values; check its weights, "
            "model.mean and model.std"
        )


def make_traces(
    classifier: Classifier,
    samples: Sequence[Tensor],
    layers: Sequence[Layer],
    shares: Shares,
    answers: Sequence[Answer],
    settings: TraceSettings,
    stages: Stages,
) -> list[Trace]:
    """samples -> hessians -> traces of several images; samples: uint8 (samples, 3, h, w) of each.

    Each layer is solved for all images at once where the pruner can; where shares are searched each image has its own.
    """
    with seed_generators(settings.seed, device_of(classifier.model)):  # a network may draw random numbers itself
        if shares.search is None:
            return _solve_together(classifier, samples, layers, shares.given, answers, settings, stages)
        names = late_layers(classifier, shares, settings)
        traces = []
        for own, one in zip(samples, answers, strict=True):
            with stages.stage("calibrate", total=len(own)) as advance:
                image = calibrate_image(classifier, layers, names, own, one, settings, advance)
            traces.append(make_trace(image, shares, settings, stages, owns_statistics=True))
            del image  # before the next one is measured
        return traces


def make_trace(
    image: CalibratedImage,
    shares: Shares,
    settings: TraceSettings,
    stages: Stages | None = None,
    owns_statistics: bool = False,
) -> Trace:
    """hessians -> trace: given shares are solved for, others are found by trying.

    owns_statistics: nobody needs the image's statistics afterwards, so the search drops them as it goes.
    """
    stages = Stages() if stages is None else stages
    image = replace(image, statistics=add_gradients(image, settings))
    if shares.search is None:
        with stages.stage("prune", total=len(image.layers)) as advance:
            return prune(
                image.classifier.model,
                image.layers,
                shares.given,
                image.statistics,
                settings.pruner,
                damping=settings.damping,
                on_layer=lambda _: advance(1),
            )
    return _search_traces(image, shares, shares.search, settings, stages, owns_statistics)


def _search_traces(
    image: CalibratedImage, shares: Shares, auto: Auto, settings: TraceSettings, stages: Stages, owns_statistics: bool
) -> Trace:
    """The trace that the search chooses, and as many others as the settings ask for."""
    wanted = settings.visualization_traces and image.answer.question.classes  # of a function no row is known
    head = _head_block(image, shares) if wanted else {}
    # The search with a pruned head needs the statistics, too, and takes over what was solved.
    draft = Draft(
        image.classifier.model,
        image.layers,
        image.statistics,
        settings.pruner,
        settings.damping,
        owns_statistics and not head,
    )
    found, judge = free_blocks(image, shares, auto), make_judge(image)
    search = Search(draft, found, auto, judge, shares.given)
    with stages.stage("prune", total=search.most_trials) as advance:
        search.on_trial = lambda _: advance(1)
        best = search.run()
        trials, chosen = tuple(search.trials), search.spread(settings.map_traces)
        others = OtherTraces(search.copy_traces(chosen[1:]), map_trials=tuple(chosen))
    del search  # and the outputs that it keeps
    if head and best is not None:
        rows = image.answer.question.classes
        head_search = HeadSearch(draft, {**head, **found}, auto, judge, shares.given, rows=rows)
        before = draft.shares
        with stages.stage("prune", total=head_search.most_trials) as advance:
            head_search.on_trial = lambda _: advance(1)
            head_search.run()
            chosen = head_search.spread(settings.visualization_traces)
            networks = head_search.copy_traces(chosen)
            head_search.leave(before)
        others = replace(others, for_visualization=networks, visualization_trials=tuple(chosen))
    return replace(draft.trace(trials), others=others)


def _head_block(image: CalibratedImage, shares: Shares) -> dict[str, tuple[str, ...]]:
    """The head as a block, if it is searched, has statistics, and has a row for each class."""
    rows = {layer.name: layer.shape[0] for layer in image.layers}
    head = {
        name for name in shares.head if name in image.statistics.hessians and rows[name] == len(image.answer.logits)
    }
    return {block: names for block, names in blocks(image.layers).items() if head and head == set(names)}


def calibrate_image(
    classifier: Classifier,
    layers: Sequence[Layer],
    names: Sequence[str],
    samples: Tensor,
    answer: Answer,
    settings: TraceSettings,
    on_batch: Callable[[int], None] | None = None,
) -> CalibratedImage:
    """samples -> hessians of the named layers, all in memory at once; samples: uint8 (samples, 3, h, w)."""
    store = find_store(classifier, samples, settings.calibration, settings.seed)
    statistics = calibrate(classifier, samples, names, settings.calibration, settings.seed, store, on_batch)
    return CalibratedImage(classifier, layers, samples, answer, statistics)


def add_gradients(image: CalibratedImage, settings: TraceSettings) -> Statistics:
    """The image's statistics, with the gradients of its question where the pruner takes them."""
    if not can(settings.pruner, "gradient"):
        return image.statistics
    samples = SampleBatches(image.samples, image.classifier, settings.calibration.batch_size)
    names = list(image.statistics.hessians)
    found = measure_gradients(image.classifier.model, samples, names, image.answer.question)
    return replace(image.statistics, gradients=found)


def _solve_together(
    classifier: Classifier,
    samples: Sequence[Tensor],
    layers: Sequence[Layer],
    shares: Mapping[str, float],
    answers: Sequence[Answer],
    settings: TraceSettings,
    stages: Stages,
) -> list[Trace]:
    """Several images with the same shares, pass by pass: as many layers at a time as fit into the memory."""
    calibration, seed = settings.calibration, settings.seed
    names = [name for name, share in shares.items() if share > 0]
    by_name = {layer.name: layer for layer in layers}
    stores = [find_store(classifier, own, calibration, seed) for own in samples]
    pruning = Pruning(classifier.model, len(samples), settings.damping)
    nothing = [Statistics({}, {}, Tensor()) for _ in samples]
    pruning.add([layer for layer in layers if layer.name not in names], {}, nothing, settings.pruner)
    logits: list[Tensor] = []
    for part in split_passes(classifier.model, names, calibration.memory / len(samples)):
        with stages.stage("calibrate", total=sum(map(len, samples))) as advance:
            statistics = [
                calibrate(classifier, own, part, calibration, seed, store, advance)
                for own, store in zip(samples, stores, strict=True)
            ]
            images = [
                CalibratedImage(classifier, layers, own, answer, one)
                for own, answer, one in zip(samples, answers, statistics, strict=True)
            ]
            statistics = [add_gradients(one, settings) for one in images]
        with stages.stage("prune", total=len(part)) as advance:
            pruning.add([by_name[name] for name in part], shares, statistics, settings.pruner, lambda _: advance(1))
        logits = [one.logits for one in statistics]
        del statistics  # before the next part is measured
    return pruning.traces(layers, logits)


def late_layers(classifier: Classifier, shares: Shares, settings: TraceSettings) -> list[str]:
    """The layers that a search calibrates: those with a share, the head if it is searched, and the last candidates.

    As many candidates as fit into the calibration's memory.
    """
    candidates = () if shares.search is None else shares.search.candidates
    given = [name for name, share in shares.given.items() if share > 0]
    head = shares.head if settings.visualization_traces else ()
    late = [name for name in reversed(candidates) if name not in shares.given]
    return split_passes(classifier.model, [*given, *head, *late], settings.calibration.memory)[0]


def make_judge(image: CalibratedImage) -> Judge:
    """Judges by the image, and by the first of its samples."""
    samples = list(SampleBatches(image.samples[:JUDGED], image.classifier, JUDGED))
    logits, output = image.statistics.logits[:JUDGED], image.classifier.output
    return Judge(image.answer.x, image.answer.logits, image.answer.question, samples, logits, output)


def free_blocks(image: CalibratedImage, shares: Shares, search: Auto) -> dict[str, tuple[str, ...]]:
    """Blocks of layers whose shares are to be found, and that have statistics."""
    found = {name for name in search.candidates if name in image.statistics.hessians and name not in shares.given}
    free = {block: tuple(name for name in names if name in found) for block, names in blocks(image.layers).items()}
    return {block: names for block, names in free.items() if names}
