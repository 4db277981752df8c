"""The tuning, one line per arrow: images -> dense maps -> split -> trials -> the best setting held out -> files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from spade_cli.devices import full_precision
from spade_cli.errors import SpadeError
from spade_cli.evaluation.evaluate import about, identity
from spade_cli.evaluation.records_folder import Record, RecordsFolder, check_out, open_folder
from spade_cli.files import PART
from spade_cli.progress import Stages
from spade_cli.tuning.greedy import greedy
from spade_cli.tuning.space import BlockShares, Score, Space, Try
from spade_cli.tuning.tpe import tpe
from spade_cli.tuning.trials import Bench, gain, score
from spade_cli.tuning.tuning_plan import TuningPlan, TuningRequest, plan_tuning
from spade_cli.tuning.write_tuning import Found, write

TUNING = "tuning"  # what the folder is of


@dataclass(frozen=True)
class Images:
    """Dense records by index, and which images are for what; left_out: those without the measure."""

    dense: dict[int, Record]
    tuning: tuple[int, ...]
    held_out: tuple[int, ...]
    left_out: tuple[int, ...]


def tune(request: TuningRequest, console: Console | None = None) -> Path:
    """Find shares, measure them on images that had no say, and write schedule.yaml; returns the folder.

    Resumes a tuning that was stopped; other processes may work in the folder at the same time. Raises UserError for a
    request that cannot be met, before anything is written, and SpadeError where too few images can be measured.
    """
    stages = Stages(console)
    out = request.evaluation.out
    check_out(out, TUNING)
    with full_precision():
        with stages.stage("load"):
            plan = plan_tuning(request)
        part = f".{os.getpid()}{PART}"  # other processes may write the same file
        folder = open_folder(out, identity(plan.evaluation), about(plan.evaluation), TUNING, part)
        stages.console.print(Text(f"folder         {out} (the same command with out={out} resumes it)"))
        for note in plan.evaluation.classifier.notes:
            stages.console.print(Text(f"flag           {note}"))
        bench = Bench(plan, folder)
        images = split_images(plan, bench, stages)
        best = search_shares(plan, folder, bench, images, stages)
        with stages.stage("held out", total=len(images.held_out)) as advance:
            held_out = bench.trial(best, images.held_out, on_image=advance)
            tuned = bench.trial(best, images.tuning, most_lost(plan, images))
        tried = tuple(bench.trials(images.tuning))
        found = Found(best, tuned, held_out, images.dense, images.left_out, tried)
        for line in write(plan, found, folder):
            stages.console.print(Text(line))
    return out


def split_images(plan: TuningPlan, bench: Bench, stages: Stages) -> Images:
    """Dense maps of every image; the images that have the measure are split at random, by the seed."""
    names, request = plan.evaluation.data.names, plan.request
    with stages.stage("dense maps", total=len(names)) as advance:
        dense = {}
        for index in range(len(names)):
            dense[index] = bench.dense(index)
            advance(1)
    usable = [index for index, record in dense.items() if gain(record, record, request.metric) is not None]
    left_out = tuple(index for index in dense if index not in usable)
    held = max(1, round(request.held_out * len(usable))) if request.held_out > 0 else 0
    if len(usable) <= held:
        why = next((why for index in left_out for _, _, why in dense[index].failures), f"they have no {request.metric}")
        raise SpadeError(
            f"out={request.evaluation.out}: {len(usable)} of {len(names)} images can be tuned on ({why}); give "
            "more, or others"
        )
    order = np.random.default_rng(request.evaluation.seed).permutation(len(usable))
    dealt = [usable[place] for place in order]
    return Images(dense, tuple(sorted(dealt[held:])), tuple(sorted(dealt[:held])), left_out)


def most_lost(plan: TuningPlan, images: Images) -> int:
    """How many of the tuning images may be lost."""
    return int(plan.request.lost * len(images.tuning))


def search_shares(plan: TuningPlan, folder: RecordsFolder, bench: Bench, images: Images, stages: Stages) -> BlockShares:
    """The best setting of all that were tried, in this process or in others that work in the folder."""
    request, space = plan.request, plan.space
    total = request.trials if request.tuner == "tpe" else len(space.blocks) * len(space.ladder)
    done = count(1)
    with stages.stage("tune", total=total) as advance:

        def attempt(shares: BlockShares) -> Score:
            if not shares:
                return Score(0.0, 0.0, len(images.tuning), 0)  # the dense network itself
            trial = bench.trial(shares, images.tuning, most_lost(plan, images))
            found = score(trial, images.dense, request.metric)
            advance(1)
            if not stages.console.is_terminal:  # a terminal has a bar
                stages.console.print(Text(f"{next(done):>4} of {total}  {_describe_score(found)}"))
            return found

        tuners: dict[str, Callable[[Space, Try], BlockShares]] = {
            "greedy": greedy,
            "tpe": partial(tpe, trials=request.trials, seed=request.evaluation.seed, folder=folder.path),
        }
        return tuners[request.tuner](space, attempt)


def _describe_score(found: Score) -> str:
    if found.gain is None:
        return f"broken off after {found.seen} images: {found.lost} lost their top-1"
    return f"gain {100 * found.gain:+.2f} points, {found.lost} images lost"


__all__ = ["TUNING", "tune"]
