"""Try everything on one network, a trace, every method, visualizations: what works, and what it costs."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError
from spade_cli.interpretation import Channel, Explainable, explainable, is_blank, why_blank
from spade_cli.models import Classifier
from spade_cli.networks.question import Question
from spade_cli.pruning import Layer, LayerRecord
from spade_cli.pruning.layers import layer_modules
from spade_cli.pruning.schedule import Shares
from spade_cli.run.make_trace import Answer, calibrate_image, make_trace
from spade_cli.run.trace_settings import TraceSettings

WORKS, FLAGGED, SKIPPED, FAILS = "works", "flagged", "skipped", "fails"
SAME_AS_GRADIENT = 1e-3  # of the largest value: a guided gradient that is this close to the plain one is that


@dataclass
class Finding:
    """One thing that was tried, and whether it works."""

    what: str
    verdict: str = WORKS
    why: tuple[str, ...] = ()  # flags, or the reason for not working
    checks: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int | None = None  # bytes more than before at the peak; None where the system does not say


def examine(
    classifier: Classifier,
    x: Tensor,
    samples: Tensor,
    layers: Sequence[Layer],
    shares: Shares,
    settings: Sequence[TraceSettings],
    methods: Mapping[str, Callable[..., Any]],
    visualize: Callable[..., Tensor] | None,
    channels: Mapping[str, Channel],
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Try a trace by each of the settings, each method on the dense network's answer, and each visualization.

    x: normalised (1, 3, H, W); samples: uint8 (samples, 3, H, W) to calibrate on, by the first settings;
    layers: of `find_layers` with an image; methods and channels by name, as in a run. What raises a SpadeError is a
    finding; all else is a fault of the program, and passes.
    """
    found: list[Finding] = []

    def add(finding: Finding) -> None:
        found.append(finding)
        on_finding(finding)

    with torch.no_grad():
        logits = classifier.model(x.clone())[0].cpu()
    answer = Answer(x, logits, Question(int(logits.argmax())))
    for finding in _try_traces(classifier, samples, layers, shares, answer, settings):
        add(finding)
    safe = explainable(classifier.model, x)
    maps: dict[str, Tensor] = {}
    for name, method in methods.items():
        add(_try_method(name, method, safe, answer, maps))
    if visualize is not None:
        for name, channel in channels.items():
            add(_try_visualization(name, visualize, classifier, channel, settings[0].seed))
    return found


def count_findings(settings: Sequence[Any], methods: Collection[str], channels: Collection[str]) -> int:
    """How many findings `examine` makes of a network with layers to prune: the calibration's, and one for each."""
    return 1 + len(settings) + len(methods) + len(channels)


def _try_traces(
    classifier: Classifier,
    samples: Tensor,
    layers: Sequence[Layer],
    shares: Shares,
    answer: Answer,
    settings: Sequence[TraceSettings],
) -> Iterator[Finding]:
    """One calibration, and a trace by each of the settings: how many layers it pruned, and if it touched no other."""
    names = shares.layers
    with measure_cost(device_of(classifier.model), Finding("calibration")) as finding:
        image = calibrate_image(classifier, layers, names, samples, answer, settings[0])
        finding.checks = {"layers": len(names), "saw_data": len(image.statistics.hessians)}
        if not names:
            finding.verdict, finding.why = SKIPPED, ("no layer can be pruned",)
    yield finding
    for one in settings if names else ():
        trace = None
        with measure_cost(device_of(classifier.model), Finding(f"trace by {one.pruner_name}")) as finding:
            try:
                trace = make_trace(image, shares, one)
            except SpadeError as error:
                finding.verdict, finding.why = FAILS, (str(error),)
        if trace is None:
            yield finding
            continue
        pruned = [record for record in trace.layers if record.left is None]
        finding.checks = {"pruned": len(pruned), "worst_error": max((_error(record) for record in pruned), default=0.0)}
        finding.verdict, finding.why = _judge_trace(classifier.model, trace.model, trace.layers, names)
        yield finding


def _error(record: LayerRecord) -> float:
    return 0.0 if record.error is None else record.error


def _judge_trace(
    dense: nn.Module, trace: nn.Module, records: Sequence[LayerRecord], names: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """Damage is a layer that changed without having been pruned, or one that lost all of its weights."""
    before, after = layer_modules(dense), layer_modules(trace)
    tied = {id(before[record.name].weight) for record in records if record.left is None}
    for record in records:
        weight = before[record.name].weight
        same = torch.equal(weight, after[record.name].weight)  # type: ignore[arg-type]
        if record.left is not None and not same and id(weight) not in tied:
            return FAILS, (f"{record.name} changed, though it was left: {record.left}",)
        if record.left is None and record.achieved == 1 and record.asked < 1:
            return FAILS, (f"{record.name} lost all of its weights",)
    left = [f"{record.name}: {record.left}" for record in records if record.name in names and record.left is not None]
    return (FLAGGED, tuple(left)) if left else (WORKS, ())


def _try_method(
    name: str, method: Callable[..., Any], safe: Explainable, answer: Answer, maps: dict[str, Tensor]
) -> Finding:
    """One method's map and checks; the guided ones are compared with the plain gradient, if that was drawn before."""
    with measure_cost(answer.x.device, Finding(name)) as finding:
        try:
            made = method([safe], answer.x, answer.target)
        except SpadeError as error:
            finding.verdict, finding.why = SKIPPED, (str(error),)
            return finding
    maps[name] = made.map
    finding.checks, finding.why = dict(made.checks), tuple(made.warnings)
    if name == "guided_backprop" and "saliency" in maps:
        plain = maps["saliency"]
        apart = (made.map.abs() - plain).abs().max() / plain.max().clamp(min=torch.finfo(torch.float32).tiny)
        finding.checks["from_gradient"] = apart.item()
        if apart < SAME_AS_GRADIENT and not finding.why:
            finding.why = ("guided_backprop: equals the plain gradient",)
    finding.verdict = FLAGGED if finding.why else WORKS
    return finding


def _try_visualization(
    name: str, visualize: Callable[..., Tensor], classifier: Classifier, channel: Channel, seed: int
) -> Finding:
    own = classifier.preprocessing
    settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": seed}
    with measure_cost(device_of(classifier.model), Finding(f"visualization of {name}")) as finding:
        try:
            (picture,) = visualize([classifier.model], [channel], **settings)  # (3, H, W)
        except SpadeError as error:
            finding.verdict, finding.why = SKIPPED, (str(error),)
            return finding
    finding.checks = {"contrast": picture.flatten(1).std(dim=1).max().item()}
    if is_blank(picture):
        why = why_blank(visualize, [classifier.model], channel, **settings)
        finding.verdict, finding.why = FLAGGED, (f"the picture is blank: {why}",)
    return finding


@contextmanager
def measure_cost(device: torch.device, finding: Finding) -> Iterator[Finding]:
    """Measure the seconds and the peak memory of the block, for the finding."""
    before = _start_of_memory(device)
    started = time.perf_counter()
    try:
        yield finding
    finally:
        finding.seconds = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")
        finding.memory = None if before is None or peak is None else max(0, peak - before)


def _start_of_memory(device: torch.device) -> int | None:
    """Bytes in use now; the peak is counted anew from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: the peak starts again
    except OSError:
        return None
    return _status("VmRSS")


def _status(key: str) -> int | None:
    """A line of Linux's /proc/self/status, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{key}:")), None)
    return None if found is None else 1024 * int(found)
