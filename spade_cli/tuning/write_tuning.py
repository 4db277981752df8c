"""The best setting -> schedule.yaml, tuning.json and table.md: its gain on the tuning and on the held-out images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spade_cli.evaluation import means_table
from spade_cli.evaluation.evaluate import about, identity
from spade_cli.evaluation.measures.intervals import Estimate, estimate
from spade_cli.evaluation.measures.metrics import METRICS
from spade_cli.evaluation.records_folder import Record, RecordsFolder
from spade_cli.files import write_whole
from spade_cli.tuning.space import BlockShares
from spade_cli.tuning.trials import TuningTrial, gain, is_lost, score
from spade_cli.tuning.tuning_plan import TuningPlan

SCHEDULE, TABLE, RESULTS = "schedule.yaml", "table.md", "tuning.json"
SETS = {"tuning": "Images tuned on", "held_out": "Held-out images"}


@dataclass(frozen=True)
class Found:
    """The best setting, measured on both sets, and what led to it."""

    shares: BlockShares
    tuning: TuningTrial
    held_out: TuningTrial
    dense: Mapping[int, Record]
    left_out: tuple[int, ...]
    tried: tuple[TuningTrial, ...]


@dataclass(frozen=True)
class SetResult:
    """What the best setting gains on one set of images; lost: how many of them change their top-1 or lose a map."""

    images: tuple[str, ...]
    lost: int
    gain: Estimate | None  # None: measured on no image
    table: means_table.Table
    missing: list[means_table.Missing]

    def to_json(self) -> dict[str, Any]:
        """An entry of `sets` in tuning.json."""
        return {
            "images": list(self.images),
            "lost": self.lost,
            "gain": asdict(self.gain) if self.gain else None,
            "metrics": means_table.table_to_json(self.table),
            "failures": [asdict(one) for one in self.missing],
        }


def write(plan: TuningPlan, found: Found, folder: RecordsFolder) -> list[str]:
    """Write the files, each whole or not at all; returns the lines for the terminal."""
    trials = {"tuning": found.tuning, "held_out": found.held_out}
    results = {name: _result(plan, found, trial) for name, trial in trials.items() if trial.records}
    missing = means_table.find_missing([found.dense[index] for index in found.left_out])
    content = {
        **about(plan.evaluation),
        "identity": identity(plan.evaluation),
        "blocks": plan.blocks,
        "shares": found.shares,
        "sets": {name: result.to_json() for name, result in results.items()},
        "trials": _scores(plan, found),
        "left_out": [asdict(one) for one in missing],
    }
    lines = [_line(plan, name, result) for name, result in results.items()]
    texts = {SCHEDULE: _schedule(plan, found, lines), TABLE: _table(plan, found, results, lines, missing)}
    for name, text in texts.items():
        write_whole(folder.path / name, partial(Path.write_text, data=text, encoding="utf-8"), folder.part)
    folder.write(RESULTS, content)  # last: where it exists, the other files do
    shares = ", ".join(f"{block} {share:g}" for block, share in found.shares.items())
    return [*lines, f"schedule       {shares or 'nothing gained: all blocks stay dense'}"]


def _result(plan: TuningPlan, found: Found, trial: TuningTrial) -> SetResult:
    metric, seed = plan.request.metric, plan.request.evaluation.seed
    pairs = [(found.dense[record.index], record) for record in trial.records]
    gains = [value for value in (gain(*pair, metric) for pair in pairs) if value is not None]
    records = [
        Record(one.index, one.image, one.target, [*one.rows, *other.rows], [], [*one.failures, *other.failures])
        for one, other in pairs
    ]
    return SetResult(
        tuple(record.image for record in records),
        sum(is_lost(*pair, metric) for pair in pairs),
        estimate(gains, seed) if gains else None,
        means_table.fill_table(means_table.gather_values(records), seed),
        means_table.find_missing(records),
    )


def _scores(plan: TuningPlan, found: Found) -> list[dict[str, Any]]:
    """The entries of `trials` in tuning.json, the best first, those that were broken off last."""
    scores = [(trial.shares, score(trial, found.dense, plan.request.metric)) for trial in found.tried]
    scores.sort(key=lambda one: (one[1].gain is None, -(one[1].gain or 0), json.dumps(one[0])))
    return [{"shares": shares, **asdict(one)} for shares, one in scores]


def _line(plan: TuningPlan, name: str, result: SetResult) -> str:
    gained = "none could be measured" if result.gain is None else _say_gain(result.gain)
    lost = f"{result.lost} of {len(result.images)} images lost"
    return f"{name.replace('_', '-'):<14} gain in {plan.request.metric} {gained}; {lost}"


def _say_gain(found: Estimate) -> str:
    ends = "" if found.low is None or found.high is None else f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    return f"{100 * found.mean:+.2f} points{ends}"


def _schedule(plan: TuningPlan, found: Found, lines: list[str]) -> str:
    """The table that schedule=PATH takes. JSON's strings and numbers are YAML's."""
    request, classifier = plan.request, plan.evaluation.classifier
    comment = [
        f"Shares for {classifier.name} that spade tune found; use them with schedule=PATH of this file.",
        f"{request.metric}, mean over {', '.join(request.evaluation.saliency)}; tuner={request.tuner}",
        *lines,
        request.evaluation.command,
    ]
    head = "".join(f"# {' '.join(line.split())}\n" for line in comment)
    rows = "".join(f"  {json.dumps(block)}: {json.dumps(found.shares.get(block, 0.0))}\n" for block in plan.blocks)
    return f"{head}shares:\n{rows}"


def _table(
    plan: TuningPlan,
    found: Found,
    results: Mapping[str, SetResult],
    lines: list[str],
    missing: Sequence[means_table.Missing],
) -> str:
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
    for name, one in results.items():
        text.append(means_table.table_to_markdown(one.table, one.missing, len(one.images), SETS[name]))
    if found.left_out:
        why = "; ".join(f"{one.image}: {one.why}" for one in missing)
        text.append(f"{len(found.left_out)} other pictures have no {request.metric}{f': {why}' if why else ''}.\n")
    return "\n".join(text)
