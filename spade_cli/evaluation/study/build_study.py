"""The paper's human study: tasks for people, as one web page that stands alone, and the key that scores them.

A task shows a picture, the visualization of one class neuron on one network, and two patches of the picture, each of
exactly a tenth of its pixels, from the Score-CAM maps of the two classes that the network thinks of most. Which patch
does the neuron respond to? Which network it is stays hidden.
"""

import base64
import hashlib
import io
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from spade_cli.devices import full_precision
from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.case import Case, open_case
from spade_cli.evaluation.conditions import Condition
from spade_cli.evaluation.evaluate import about, fit_sparse_fc
from spade_cli.evaluation.evaluation_plan import FROM_NOISE, EvaluationPlan, EvaluationRequest, plan_evaluation
from spade_cli.evaluation.measures.insertion import order
from spade_cli.interpretation import (
    Channel,
    Dense,
    explainable,
    is_blank,
    score_cam,
    takes_image,
    visualize_dense,
    why_blank,
)
from spade_cli.progress import Stages
from spade_cli.report.pictures import picture
from spade_cli.report.run_folder import new_folder

PAGE, KEY = "study.html", "key.json"
TEMPLATE = Path(__file__).with_name("study.html")
SHARE = 0.1  # of the picture's pixels in each patch, as in the paper
MOST_SHARED = 0.5  # of a patch's pixels: a rater cannot choose between patches that are more alike
SIDES = ("left", "right")


@dataclass(frozen=True)
class Task:
    """What the rater does not see. right_side: where the patch of the neuron's own class is."""

    image: str
    condition: str
    neuron: str
    other: str
    right_side: str


@dataclass(frozen=True)
class Key:
    """What key.json holds to score answers."""

    study: str
    tasks: Mapping[str, Task]  # by number


def build_study(request: EvaluationRequest, out: Path, console: Console | None = None) -> Path:
    """Write the page and its key into a new folder; returns the page. Raises UserError as `evaluate` does."""
    stages = Stages(console)
    with full_precision():
        with stages.stage("load"):
            plan = plan_evaluation(request)
        if request.visualize is None:
            raise UserError(f"study={out} shows feature visualizations; give interpreter=all or visualization")
        if takes_image(request.visualize):
            raise UserError(f"study={out} shows visualizations of noise, beside the picture; {FROM_NOISE}")
        with new_folder(out, f"study={out}") as folder:
            plan = fit_sparse_fc(plan, stages)
            tasks, shown, skipped = _make_tasks(plan, stages)
            if not tasks:
                why = "; ".join(sorted({reason for _, reason in skipped}))
                raise SpadeError(f"study={out}: no picture makes a task ({why}); give other data")
            study = hashlib.sha256(json.dumps([asdict(task) for task in tasks.values()]).encode()).hexdigest()[:12]
            (folder / PAGE).write_text(_page(study, shown), encoding="utf-8")
            key: dict[str, Any] = {**about(plan), "study": study, "skipped": skipped}
            key["tasks"] = {name: asdict(task) for name, task in tasks.items()}
            (folder / KEY).write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    stages.console.print(f"{len(tasks)} tasks; {len(skipped)} pictures or networks left out, see {out / KEY}")
    return out / PAGE


def _make_tasks(
    plan: EvaluationPlan, stages: Stages
) -> tuple[dict[str, Task], list[dict[str, str]], list[tuple[str, str]]]:
    """Shuffled tasks by number, what the page shows of each, and what was left out, with the reason."""
    dice = random.Random(plan.request.seed)
    made: list[tuple[Task, dict[str, str]]] = []
    skipped: list[tuple[str, str]] = []
    total = len(plan.data.names) * len(plan.conditions)
    with stages.stage("tasks", total=total) as advance:
        for index, name in enumerate(plan.data.names):
            try:
                case = open_case(plan, index, plan.data.load(index))
                made += _make_tasks_of_case(case, dice, skipped)
            except SpadeError as error:
                skipped.append((name, str(error)))
            advance(len(plan.conditions))
    dice.shuffle(made)
    tasks = {f"{number:04d}": task for number, (task, _) in enumerate(made, 1)}
    shown = [{"task": number, **pictures} for number, (_, pictures) in zip(tasks, made, strict=True)]
    return tasks, shown, skipped


def _make_tasks_of_case(
    case: Case, dice: random.Random, skipped: list[tuple[str, str]]
) -> Iterator[tuple[Task, dict[str, str]]]:
    """One task for each condition of a picture: the same neuron and patches, the sides drawn for each."""
    plan, name = case.plan, case.plan.data.names[case.index]
    if plan.classifier.classes < 2:
        raise SpadeError("the network knows one class only")
    candidates = case.logits.topk(2).indices.tolist()
    dice.shuffle(candidates)
    neuron, other = candidates
    safe = explainable(plan.classifier.model, case.x)
    maps = [score_cam(safe, case.x, one, batch_size=plan.request.trace.calibration.batch_size) for one in candidates]
    patches = [top_share(one.map[0], plan.request.seed) for one in maps]
    shared = float((patches[0] & patches[1]).sum() / patches[0].sum())
    if shared > MOST_SHARED:
        raise SpadeError(f"its two patches share {shared:.0%} of their pixels")
    view = plan.classifier.preprocessing.view(case.example.image)[0]  # (3, H, W)
    cut = [_uri(picture(torch.where(patch, view, 1.0))) for patch in patches]  # all but the patch is white
    for condition in plan.conditions:
        right_side = dice.choice(SIDES)
        try:
            visualization = _visualize(case, condition, neuron)
        except SpadeError as error:
            skipped.append((f"{name}, {condition.name}", str(error)))
            continue
        sides = dict(zip(SIDES if right_side == "left" else SIDES[::-1], cut, strict=True))
        label = plan.classifier.label
        task = Task(name, condition.name, label(neuron), label(other), right_side)
        yield task, {"image": _uri(picture(view)), "visualization": _uri(picture(visualization)), **sides}


def _visualize(case: Case, condition: Condition, neuron: int) -> Tensor:
    """The neuron's visualization on a condition's networks: (3, H, W)."""
    request, own = case.plan.request, case.plan.classifier.preprocessing
    assert request.visualize is not None
    networks, channels = case.networks(condition).for_visualization, [Channel(None, neuron)]
    settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": request.seed}
    cache, classifier = request.cache if not condition.layers else None, case.plan.classifier
    draw = partial(visualize_dense, cache, request.visualize, networks, channels, name=classifier.name)
    if classifier.model not in networks:  # of itself it would be no correction
        draw = partial(draw, dense=Dense(classifier.model, classifier.output))
    shown = draw(**settings).values[0]
    if is_blank(shown):
        why = why_blank(request.visualize, networks, channels[0], **settings)
        raise SpadeError(f"the visualization is blank: {why}")
    return shown


def top_share(relevance: Tensor, seed: int, share: float = SHARE) -> Tensor:
    """The most relevant pixels of a map (H, W), exactly round(share x pixels) of them: bool (H, W)."""
    place = order(relevance.flatten()[None], seed)[0].view_as(relevance)
    return place < round(share * relevance.numel())


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _page(study: str, shown: list[dict[str, str]]) -> str:
    content = json.dumps({"study": study, "tasks": shown})
    return TEMPLATE.read_text(encoding="utf-8").replace("/*TASKS*/null", content.replace("</", "<\\/"))
