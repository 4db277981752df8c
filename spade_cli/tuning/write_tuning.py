"""What was found -> schedule.yaml, tuning.json and table.md: the gain where it was tuned, and where it was not."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spade_cli.evaluation import tables
from spade_cli.evaluation.evaluate import about, identity
from spade_cli.evaluation.measure_image import Record
from spade_cli.evaluation.measures.intervals import Estimate, estimate
from spade_cli.evaluation.records_folder import Folder
from spade_cli.files import write_whole
from spade_cli.tuning.bench import Trial, gain, is_lost, score
from spade_cli.tuning.space import Shares
from spade_cli.tuning.tuning_plan import METRICS, TuningPlan

SCHEDULE, TABLE, RESULTS = "schedule.yaml", "table.md", "tuning.json"
SETS = {"tuning": "Images tuned on", "held_out": "Held-out images"}


@dataclass(frozen=True)
class Found:
    """The best setting, measured on both sets, and what led to it."""

    shares: Shares
    tuning: Trial
    held_out: Trial
    dense: Mapping[int, Record]
    left_out: tuple[int, ...]
    tried: tuple[Trial, ...]


def write(plan: TuningPlan, found: Found, folder: Folder) -> list[str]:
    """Write the files, each whole or not there; returns the lines that a person wants to see."""
    sets = {name: _set(plan, found, getattr(found, name)) for name in SETS}
    content = {
        **about(plan.evaluation),
        "identity": identity(plan.evaluation),
        "blocks": plan.blocks,
        "shares": found.shares,
        "sets": {name: one for name, one in sets.items() if one is not None},
        "trials": sorted(
            (_tried(plan, found, trial) for trial in found.tried),
            key=lambda one: (one["gain"] is None, -(one["gain"] or 0), json.dumps(one["shares"])),
        ),
        "left_out": tables.failures([found.dense[index] for index in found.left_out]),
    }
    lines = [_line(plan, name, one) for name, one in sets.items() if one is not None]
    texts = {SCHEDULE: _schedule(plan, found, lines), TABLE: _table(plan, found, sets, lines)}
    for name, text in texts.items():
        write_whole(folder.path / name, _writer(text), folder.part)
    folder.write(RESULTS, content)  # last: where it has results the other files are there
    return [*lines, f"schedule       {_listed(found.shares)}"]


def _writer(text: str) -> Any:
    return lambda path: path.write_text(text, encoding="utf-8")


def _set(plan: TuningPlan, found: Found, trial: Trial) -> dict[str, Any] | None:
    """Gain, images that keep their top-1, and the measures themselves, on one set of images; None without any."""
    if not trial.records:
        return None
    metric = plan.request.metric
    pairs = [(found.dense[record.index], record) for record in trial.records]
    gains = [value for value in (gain(*pair, metric) for pair in pairs) if value is not None]
    records = [
        Record(one.index, one.image, one.target, [*one.rows, *other.rows], [], [*one.failures, *other.failures])
        for one, other in pairs
    ]
    return {
        "images": [record.image for record in records],
        "lost": sum(is_lost(*pair, metric) for pair in pairs),
        "gain": asdict(estimate(gains, plan.request.evaluation.seed)) if gains else None,
        "metrics": tables.summarise(tables.gather(records), plan.request.evaluation.seed),
        "failures": tables.failures(records),
    }


def _tried(plan: TuningPlan, found: Found, trial: Trial) -> dict[str, Any]:
    return {"shares": trial.shares, **asdict(score(trial, found.dense, plan.request.metric))}


def _line(plan: TuningPlan, name: str, one: Mapping[str, Any]) -> str:
    images = len(one["images"])
    shown = "none could be measured" if one["gain"] is None else _points(Estimate(**one["gain"]))
    return f"{name.replace('_', '-'):<14} gain in {plan.request.metric} {shown}; {one['lost']} of {images} images lost"


def _points(found: Estimate) -> str:
    ends = "" if found.low is None or found.high is None else f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    return f"{100 * found.mean:+.2f} points{ends}"


def _listed(shares: Shares) -> str:
    return ", ".join(f"{block} {share:g}" for block, share in shares.items()) or "nothing gained: all blocks stay dense"


def _schedule(plan: TuningPlan, found: Found, lines: list[str]) -> str:
    """The table that schedule=PATH takes. JSON's strings and numbers are YAML's."""
    request, classifier = plan.request, plan.evaluation.classifier
    said = [
        f"Shares for {classifier.name} that spade tune found; use them with schedule=PATH of this file.",
        f"{request.metric}, mean over {', '.join(request.evaluation.saliency)}; tuner={request.tuner}",
        *lines,
        request.evaluation.command,
    ]
    comment = "".join(f"# {' '.join(line.split())}\n" for line in said)
    rows = "".join(f"  {json.dumps(block)}: {json.dumps(found.shares.get(block, 0.0))}\n" for block in plan.blocks)
    return f"{comment}shares:\n{rows}"


def _table(plan: TuningPlan, found: Found, sets: Mapping[str, Mapping[str, Any] | None], lines: list[str]) -> str:
    request, metric = plan.request, METRICS[plan.request.metric]
    direction = "" if metric.larger_is_better else " (counted so that more is better)"
    text = [
        f"# Shares for {plan.evaluation.classifier.name}, tuned on {request.evaluation.data}",
        "",
        f"By {request.metric}, {metric.title}{direction}, mean over {', '.join(request.evaluation.saliency)}; "
        f"tuner={request.tuner}.",
        "",
        *(f"- {line}" for line in map(str.strip, lines)),
        "",
        "Intervals are 95 % bootstrap intervals over the images. The setting is the best of "
        f"{len(found.tried)} on the images it was tuned on, so that their gain flatters it; what to expect of another "
        "picture is the gain on the held-out ones.",
        "",
        "| block | share |",
        "|---|---|",
        *(f"| {block} | {found.shares.get(block, 0.0):g} |" for block in plan.blocks),
        "",
    ]
    for name, title in SETS.items():
        one = sets[name]
        if one is not None:
            text.append(tables.markdown(one["metrics"], one["failures"], len(one["images"]), title))
    missing = tables.failures([found.dense[index] for index in found.left_out])
    if found.left_out:
        text.append(f"{len(found.left_out)} other pictures have no {request.metric}{_why(missing)}.\n")
    return "\n".join(text)


def _why(missing: list[dict[str, str]]) -> str:
    listed = "; ".join(f"{one['image']}: {one['why']}" for one in missing)
    return f": {listed}" if listed else ""
