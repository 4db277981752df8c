"""Time traces of many images and beside the published procedure, count the samples needed: docs/benchmarks.md.

    python scripts/bench_run.py [--network squeezenet.pth --images cat.jpg zebra.jpg ...]

ResNet50 is untrained but for its BatchNorm statistics, so that nothing need be downloaded: where the shares are given,
its shapes are what counts; scripts/bench_commands.py measures runs that search them. Errors are measured on
augmentations that no trace was made on.
"""

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import published
import torch
from benchmark_page import table, write_section
from PIL import Image
from torch import Tensor, nn
from torchvision import models

import spade_cli
from spade_cli.images import augment
from spade_cli.images.load import as_image
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.pruning import find_layers, prune, schedule
from spade_cli.pruning.hessian import Statistics
from spade_cli.pruning.layers import block_of, weight_matrix
from spade_cli.pruning.solvers.damped_hessian import damp, relative_error
from spade_cli.pruning.solvers.sparsegpt import sparsegpt
from spade_cli.run.calibrate import Calibration, SampleBatches, calibrate
from spade_cli.world import draw_pictures

COMMAND = "python scripts/bench_run.py"
SAMPLES = 1024  # of the published notebook
TABLE = "fast_lrp"  # the published shares for FastSPADE
HELD_OUT, HELD_OUT_SEED = 64, 777
ALONE = "import sys, json, bench_run; print(json.dumps(bench_run.time_trace(*json.loads(sys.argv[1]))))"


def main() -> None:
    """Every section."""
    arguments = _arguments()
    sections: dict[str, Callable[[argparse.Namespace], None]] = {
        "together": images_together,
        "samples": what_samples_are_needed,
        "published": against_the_published_run,
    }
    for name in arguments.only or sections:
        sections[name](arguments)


def resnet50() -> Classifier:
    """Untrained, its BatchNorms set to what drawn pictures do to them, as training would."""
    torch.manual_seed(0)
    model = models.resnet50(weights=None)
    classifier = spade_cli.wrap(model, name="resnet50")
    pictures = nn.functional.interpolate(
        draw_pictures(32, seed=6_000_000).images.float() / 255, size=224, mode="bilinear"
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees
    with torch.no_grad():
        model.train()(classifier.preprocessing.normalise(pictures))
    model.eval()
    return classifier


def write_picture(number: int, folder: Path) -> Path:
    """A drawn picture in a file."""
    path = folder / f"{number}.png"
    Image.fromarray(draw_pictures(1, seed=7_000_000, start=number).images[0].permute(1, 2, 0).numpy()).resize(
        (500, 400)
    ).save(path)
    return path


def time_trace(images: Sequence[str], settings: dict[str, object]) -> dict[str, float]:
    """Load to trace in this process: seconds by part and the peak of memory in GB."""
    started = time.perf_counter()
    classifier = resnet50()
    loaded = time.perf_counter()
    spade_cli.traces(classifier, list(images), **settings)  # type: ignore[arg-type]
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"load": loaded - started, "trace": ended - loaded, "peak": peak}


def time_alone(images: Sequence[Path], **settings: object) -> dict[str, float]:
    """`time_trace` in a process of its own, whose start is counted in `whole`."""
    started = time.perf_counter()
    asked = json.dumps([[str(image) for image in images], settings])
    run = subprocess.run(
        [sys.executable, "-c", ALONE, asked], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    return {**json.loads(run.stdout), "whole": time.perf_counter() - started}


def images_together(_: argparse.Namespace) -> None:
    """Eight images at once against eight runs."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        images = [write_picture(i, Path(folder)) for i in range(8)]
        for name in ("sparsegpt", "forward"):
            settings = {"pruner": name, "samples": 64, "sparsity": 0.98}
            batch = time_alone(images, **settings)
            single = [time_alone([image], **settings) for image in images]
            whole, inside = (sum(run[key] for run in single) for key in ("whole", "trace"))
            cells = [f"{whole:.0f}", f"{batch['whole']:.0f}", f"{whole / batch['whole']:.2f} x"]
            lines.append((name, *cells, f"{inside / batch['trace']:.2f} x", f"{batch['peak']:.2f}"))
    head = ("pruner", "8 runs, s", "one batch, s", "faster", "without start and load", "peak memory of the batch, GB")
    text = "## Eight images as one batch, ResNet50, 64 samples each, sparsity 0.98\n\n" + table(head, lines)
    write_section("together", COMMAND + " --only together", text)


def against_the_published_run(_: argparse.Namespace) -> None:
    """The same layers and shares, ours and the published procedure, each from its own samples."""
    classifier = resnet50()
    model, layers = classifier.model, find_layers(classifier.model)
    tables = spade_tables()
    shares = schedule.paper_resnet50(layers, 0.0, tables=tables, method=TABLE)
    names = list(shares)
    modules: dict[str, nn.Module] = dict(model.named_modules())
    image = as_image(
        Image.fromarray(draw_pictures(1, seed=7_000_000).images[0].permute(1, 2, 0).numpy()).resize((500, 400))
    )
    held = calibrate(
        classifier,
        augment.paper(image, HELD_OUT, classifier.preprocessing, HELD_OUT_SEED),
        names,
        Calibration(precision="float32"),
        0,
    )

    def error(weights: Callable[[str], Tensor]) -> dict[str, float]:
        return {
            name: relative_error(weight_matrix(modules[name]), weights(name), held.hessians[name]) for name in names
        }

    started = time.perf_counter()
    copies = augment.paper(image, SAMPLES, classifier.preprocessing, 0)
    augmented = time.perf_counter()
    batches = SampleBatches(copies, classifier, 32)
    hessians = published.statistics(copy.deepcopy(model), batches, names)
    measured = time.perf_counter()
    solved = {}
    for name in names:
        damped, _ = damp(hessians[name][None], 0.01)
        assert isinstance(damped, Tensor)
        weight = weight_matrix(modules[name])[0]
        solved[name] = published.fast_spade(weight, damped[0], shares[name], block_of(modules[name]))[None]
    ended = time.perf_counter()
    theirs = error(solved.__getitem__)
    slow = ended - started
    split = f"{augmented - started:.0f} + {measured - augmented:.0f} + {ended - measured:.0f}"
    lines = [(f"published, {SAMPLES} samples, all positions", split, f"{slow:.0f}", "1", "")]
    del hessians
    for samples, rows in ((128, 16), (256, 32), (512, 32), (1024, 32), (1024, 8)):
        started = time.perf_counter()
        copies = augment.paper(image, samples, classifier.preprocessing, 0)
        augmented = time.perf_counter()
        statistics = calibrate(classifier, copies, names, Calibration(rows_per_column=rows), 0)
        measured = time.perf_counter()
        trace = prune(model, layers, shares, statistics, sparsegpt)
        ended = time.perf_counter()
        pruned = dict(trace.model.named_modules())
        ours = error(lambda name: weight_matrix(pruned[name]))  # noqa: B023
        more = mean(ours[name] / theirs[name] for name in names) - 1
        split = f"{augmented - started:.0f} + {measured - augmented:.0f} + {ended - measured:.0f}"
        quicker = f"{slow / (ended - started):.1f}"
        lines.append(
            (f"ours, {samples} samples, {rows} rows a column", split, f"{ended - started:.0f}", quicker, f"{more:+.1%}")
        )
    head = ("", "augment + calibrate + solve, s", "in all, s", "times faster", "error on other augmentations")
    text = (
        f"## ResNet50, {len(names)} layers by the paper's shares for FastSPADE, `sparsegpt`\n\n"
        "The last column is the mean over layers of our error against theirs.\n\n" + table(head, lines)
    )
    write_section("published", COMMAND + " --only published", text)


def spade_tables() -> dict[str, list[float]]:
    """The paper's shares, from the configuration."""
    from omegaconf import OmegaConf

    path = Path(__file__).parents[1] / "configs" / "schedule" / "paper_resnet50.yaml"
    found = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(found, dict)
    return found["tables"]


def what_samples_are_needed(arguments: argparse.Namespace) -> None:
    """The error on held-out augmentations against samples and rows per column, and what bfloat16 does to it."""
    if arguments.network:
        classifier = load_model(ModelSource("squeezenet1_1", weights=str(arguments.network)))
        images = [as_image(path) for path in arguments.images]
    else:
        from spade_cli.world import demo_classifier

        classifier, images = demo_classifier(), list(draw_pictures(3, seed=5_000_000).images)
    layers = find_layers(classifier.model)
    names = [layer.name for layer in layers if layer.reason is None][-8:]
    modules: dict[str, nn.Module] = dict(classifier.model.named_modules())

    def errors(image: Tensor, held: Statistics, samples: int, how: Calibration) -> list[float]:
        statistics = calibrate(classifier, augment.paper(image, samples, classifier.preprocessing, 0), names, how, 0)
        trace = prune(
            classifier.model, layers, dict.fromkeys(names, 0.95), statistics, spade_cli.pruning.find_pruner("forward")
        )
        pruned = dict(trace.model.named_modules())
        return [relative_error(weight_matrix(modules[n]), weight_matrix(pruned[n]), held.hessians[n]) for n in names]

    all_positions = Calibration(rows_per_column=None, precision="float32")
    settings = [(256, all_positions)]
    settings += [(256, Calibration(rows_per_column=rows, precision="float32")) for rows in (64, 32, 16, 8, 4)]
    settings += [(256, Calibration(precision="bfloat16"))]
    settings += [(samples, Calibration(precision="float32")) for samples in (128, 64, 32, 16)]
    found: list[list[float]] = [[] for _ in settings]
    for image in images:
        copies = augment.paper(image, HELD_OUT, classifier.preprocessing, HELD_OUT_SEED)
        held = calibrate(classifier, copies, names, all_positions, 0)
        for place, (samples, how) in enumerate(settings):
            found[place] += errors(image, held, samples, how)
    lines = []
    for (samples, how), values in zip(settings, found, strict=True):
        more = mean(value / exact for value, exact in zip(values, found[0], strict=True)) - 1
        lines.append((samples, how.rows_per_column or "all", how.precision, f"{more:+.2%}"))
    what = "SqueezeNet 1.1 (ImageNet)" if arguments.network else "the bundled network"
    text = f"## How many samples and positions, {what}\n\n`forward` at 0.95 in the last {len(names)} layers, mean over "
    text += f"{len(images)} images and the layers, on {HELD_OUT} other augmentations, all positions.\n\n"
    text += table(("samples", "rows per column", "forward pass", "error against all positions"), lines)
    write_section("samples", COMMAND + " --only samples [--network ... --images ...]", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, help="a state dict of torchvision's squeezenet1_1")
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="photographs to measure it on")
    parser.add_argument("--only", nargs="*", help="sections: together, samples, published")
    return parser.parse_args()


if __name__ == "__main__":
    main()
