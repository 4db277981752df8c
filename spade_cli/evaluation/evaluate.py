"""The experiment, one line per arrow: examples -> calibration -> networks -> maps -> measures -> tables and figures."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from spade_cli.devices import device_of, full_precision
from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation import data as datasets
from spade_cli.evaluation import means_table
from spade_cli.evaluation.conditions import SPARSE_FC, Networks
from spade_cli.evaluation.evaluation_plan import EvaluationPlan, EvaluationRequest, plan_evaluation
from spade_cli.evaluation.figures import write_figures
from spade_cli.evaluation.measure_image import measure_image
from spade_cli.evaluation.records_folder import Record, RecordsFolder, check_out, open_folder
from spade_cli.evaluation.sparse_fc import PENALTIES, sparse_fc
from spade_cli.evaluation.study.concepts import ConceptStudy
from spade_cli.evaluation.study.reader import EPOCHS, NETWORKS, Reader, reader_at
from spade_cli.evaluation.study.twin import Twin
from spade_cli.files import leave_out_storage, write_whole
from spade_cli.models import Classifier
from spade_cli.progress import Stages
from spade_cli.report import summary
from spade_cli.version import __version__

# Added to the seed for the pictures that Sparse FC learns from: none of them is measured on.
FIT_SEED = 1_000_000
FIT_TROJAN_SHARE = 0.25  # as `spade world` draws them: all classes and all Trojans are learnt, whatever is measured


def evaluate(request: EvaluationRequest, console: Console | None = None) -> Path:
    """Measure every condition on every example and write the tables; returns the folder.

    Resumes an evaluation that was stopped, image by image, to the same numbers. Raises UserError for a request that
    cannot be met, before anything is written, and SpadeError where nothing at all was measured.
    """
    stages = Stages(console)
    check_out(request.out)
    with full_precision():
        with stages.stage("load"):
            plan = plan_evaluation(request)
        folder = open_folder(request.out, identity(plan), about(plan))
        stages.console.print(Text(f"folder         {request.out} (spade eval resume={request.out} resumes it)"))
        for note in plan.classifier.notes:
            stages.console.print(Text(f"flag           {note}"))
        with _forget_after_failure(folder):
            plan = fit_sparse_fc(plan, stages)
            study = concept_study(plan, folder, stages)
            records = measure_all(plan, folder, study, stages)
        with stages.stage("report"):
            found = write_tables(plan, records, folder)
    print_results(found, records, stages.console)
    if not any(record.rows for record in records):
        why = records[0].failures[0][2] if records[0].failures else "nothing was asked for"
        raise SpadeError(
            f"out={request.out}: none of {len(records)} images was measured (the first: {why}); see table.md"
        )
    return request.out


def measure_all(
    plan: EvaluationPlan, folder: RecordsFolder, study: ConceptStudy | None, stages: Stages
) -> list[Record]:
    """Every example's record, in order: read from the folder, or else measured and written there."""
    records = {index: folder.record(index) for index in range(len(plan.data.names))}
    left = [index for index, record in records.items() if record is None]
    if len(left) < len(records):
        stages.console.print(f"{len(records) - len(left)} of {len(records)} images are there already")
    with stages.stage("measure", total=len(left) * len(plan.conditions)) as advance:
        started = time.perf_counter()
        for done, index in enumerate(left, 1):
            records[index] = record = measure_image(plan, index, study, advance)
            folder.keep(record)
            if not stages.console.is_terminal:  # a terminal has a bar
                minutes = (time.perf_counter() - started) / done * (len(left) - done) / 60
                stages.console.print(
                    Text(f"{index + 1}/{len(records)} {record.image}  {record.seconds:.1f} s, {minutes:.1f} min left")
                )
    return [record for record in records.values() if record is not None]


def fit_sparse_fc(plan: EvaluationPlan, stages: Stages) -> EvaluationPlan:
    """The plan with Sparse FC's network in its place, if it was asked for."""
    if SPARSE_FC not in [condition.name for condition in plan.conditions]:
        return plan
    pictures = _find_fitting_pictures(plan)
    each_fit = math.ceil(len(pictures.names) / len(PENALTIES))  # so that the fits are the bar's second half
    with stages.stage("sparse_fc", total=len(pictures.names) + each_fit * len(PENALTIES)) as advance:
        batches = _read_pictures(pictures, plan.classifier, advance)
        on_fit = partial(advance, each_fit)
        network: nn.Module = sparse_fc(plan.classifier, batches, plan.request.seed, on_fit)
    conditions = [
        replace(condition, make=lambda calibration: Networks.of(network)) if condition.name == SPARSE_FC else condition
        for condition in plan.conditions
    ]
    return replace(plan, conditions=tuple(conditions))


def _find_fitting_pictures(plan: EvaluationPlan) -> datasets.Data:
    """Other pictures of the world, or all of a folder."""
    request = plan.request
    if request.data == "world":
        return datasets.world(request.sparse_fc_pictures, FIT_TROJAN_SHARE, request.seed + FIT_SEED)
    return plan.data


def _read_pictures(pictures: datasets.Data, own: Classifier, advance: Callable[[int], None]) -> Iterator[Tensor]:
    """Those that can be read, normalised, (1, 3, H, W)."""
    for index in range(len(pictures.names)):
        advance(1)
        try:
            image = pictures.load(index).image
        except UserError:
            continue  # it is listed when its turn comes to be measured
        yield own.preprocessing.normalise(own.preprocessing.view(image).to(device_of(own.model)))


def concept_study(plan: EvaluationPlan, folder: RecordsFolder, stages: Stages) -> ConceptStudy | None:
    """The study with its reader, trained now or kept in the folder, and its twin; None: concepts are not asked for."""
    request = plan.request
    if "concepts" not in request.metrics:
        return None
    assert request.visualize is not None  # plan_evaluation() checks it
    reader = train_or_read_reader(request, folder, stages) if request.data == "world" else None
    twin = None if plan.twin is None else Twin(plan.classifier, plan.twin)
    pictures = folder.path / "visualizations"
    return ConceptStudy(reader, request.visualize, plan.classifier, pictures, request.seed, request.cache, twin)


def train_or_read_reader(request: EvaluationRequest, folder: RecordsFolder, stages: Stages) -> Reader:
    """The reader of concepts. Prints how often it is right."""
    with stages.stage("reader", total=NETWORKS * EPOCHS) as advance:
        reader = reader_at(folder.path / "reader.safetensors", request.reader_pictures, request.seed, advance)
    stages.console.print(
        f"reader         right in {reader.accuracy:.1%} of choices between two meanings of a class, and in "
        f"{reader.symbol_accuracy:.1%} of those between a meaning and a symbol (held-out drawings; chance: 50%)"
    )
    return reader


def write_tables(plan: EvaluationPlan, records: list[Record], folder: RecordsFolder) -> means_table.Table:
    """The tables and figures, each file whole or not there."""
    found = means_table.fill_table(means_table.gather_values(records), plan.request.seed)
    missing = means_table.find_missing(records)
    content = {
        **about(plan),
        "images": len(records),
        "failures": [asdict(one) for one in missing],
        "metrics": means_table.table_to_json(found),
    }
    heading = f"{plan.classifier.name} on {plan.request.data}"
    text = means_table.table_to_markdown(found, missing, len(records), heading)
    write_whole(folder.path / "results.csv", lambda path: means_table.write_csv(records, path))
    if any(record.curves for record in records):
        write_whole(folder.path / "curves.csv", lambda path: means_table.write_curves(records, path))
    write_whole(folder.path / "table.json", lambda path: means_table.write_json(content, path))
    write_whole(folder.path / "table.md", lambda path: path.write_text(text, encoding="utf-8"))
    write_figures(found, records, folder.path)
    return found


def identity(plan: EvaluationPlan) -> dict[str, Any]:
    """All that the numbers depend on."""
    settings = {key: value for key, value in plan.request.settings.items() if key not in ("out", "output", "data")}
    return {
        "versions": {"spade": __version__, "torch": torch.__version__},
        "calibration": {},
        **leave_out_storage(settings),
        "model.sha256": plan.classifier.sha256,
        **({} if plan.twin is None else {"twin.sha256": plan.twin.sha256}),
        "data": dict(plan.data.identity),
    }


def about(plan: EvaluationPlan) -> dict[str, Any]:
    """What an evaluation is, for the record."""
    request, classifier = plan.request, plan.classifier
    return {
        "command": request.command,
        "arguments": list(request.arguments),
        "folder": str(Path.cwd()),
        "versions": {**summary.versions(), "scikit-learn": metadata.version("scikit-learn")},
        "model": {"name": classifier.name, "weights": classifier.weights, "sha256": classifier.sha256},
        "conditions": [condition.name for condition in plan.conditions],
        "notes": list(classifier.notes),
    }


def print_results(found: means_table.Table, records: list[Record], console: Console) -> None:
    """The end of an evaluation on the terminal."""
    for metric, by_method in found.items():
        cells = by_method.get(means_table.AVERAGE) or next(iter(by_method.values()))
        shown = ", ".join(f"{condition} {cell.value.mean:.3f}" for condition, cell in cells.items())
        console.print(Text(f"{metric:<18} {shown}"))
    failed = [failure for record in records for failure in record.failures]
    if failed:
        whole = sum(not condition for condition, _, _ in failed)
        console.print(Text(f"not measured       {whole} images, {len(failed) - whole} parts of others: see table.md"))


@contextmanager
def _forget_after_failure(folder: RecordsFolder) -> Iterator[None]:
    """After an error the folder may be used for another evaluation, if nothing was measured."""
    try:
        yield
    except SpadeError:
        folder.forget()
        raise


__all__ = ["evaluate"]
