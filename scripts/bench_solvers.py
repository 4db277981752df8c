"""Time and compare the solvers, layer by layer, and write docs/benchmarks.md.

    python scripts/bench_solvers.py [--network squeezenet.pth --images cat.jpg zebra.jpg]

Without a network and images, the bundled network and pictures are measured.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

import matplotlib
import published
import torch
from benchmark_page import PAGE, table, write_section
from torch import Tensor, nn

from spade_cli.images import augment
from spade_cli.images.load import as_image
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.pruning import find_layers
from spade_cli.pruning.layers import block_of, weight_matrix
from spade_cli.pruning.solvers.damped_hessian import LowRank, damp, relative_error
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.sparsegpt import sparsegpt
from spade_cli.run.calibrate import Calibration, calibrate

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COMMAND = "python scripts/bench_solvers.py"
LEVELS = (0.9, 0.95, 0.99)
WIDE_SAMPLES = 256


def main() -> None:
    """Every section, from the quick to the slow."""
    arguments = _arguments()
    torch.manual_seed(0)
    if arguments.vgg_child:
        return vgg_child()
    sections: dict[str, Callable[[argparse.Namespace], None]] = {
        "forward": against_obs_on_real_layers,
        "obs": against_published_obs,
        "wide": on_wide_layers,
        "scaling": time_sizes,
    }
    for name in arguments.only or sections:
        sections[name](arguments)
    return None


def time_call(function: Callable[[], Tensor], repeats: int = 1) -> tuple[Tensor, float]:
    """The result and the least of the seconds it took."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - started)
    return result, min(seconds)


def draw_layer(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """A random weight (r, c) and the damped Hessian (c, c) of rectified, correlated inputs with a falling spectrum.

    Errors on it are those of the damped problem, which is what every solver is given.
    """
    count = 2 * columns
    x = torch.randn(count, columns) * torch.linspace(3, 0.1, columns)[torch.randperm(columns)]
    x = (x + 0.3 * x.roll(1, 1) + 0.3 * x.roll(7, 1)).relu()
    damped, _ = damp((2 / count * x.T @ x)[None], 0.01)
    assert isinstance(damped, Tensor)
    return torch.randn(rows, columns) / columns**0.5, damped[0]


def against_published_obs(_: argparse.Namespace) -> None:
    """The same masks, how many times faster."""
    lines = []
    for rows, units, unit, part in ((64, 512, 1, 64), (256, 1024, 1, 32), (64, 64, 9, 64)):
        weight, hessian = draw_layer(rows, units * unit)
        ours, seconds = time_call(lambda: obs(weight[None], hessian[None], 0.9, unit)[0], 2)  # noqa: B023
        theirs, slow = time_call(lambda: published.exact_obs(weight[:part], hessian, 0.9, unit))  # noqa: B023
        slow *= rows / part
        if part < rows:  # the budget is the layer's, so the same rows alone have another
            ours = obs(weight[None, :part], hessian[None], 0.9, unit)[0]
        same = float(((ours == 0) == (theirs == 0)).double().mean())
        errors = [relative_error(weight[None, :part], one[None], hessian[None]) for one in (ours, theirs)]
        name = f"{rows} x {units * unit}" if unit == 1 else f"{rows} x {units} x 3 x 3, kernels"
        published_seconds = f"{slow:.1f}" + (f" ({part} rows, times {rows // part})" if part < rows else "")
        difference = f"{abs(errors[0] / errors[1] - 1):.0e}"
        lines.append((name, published_seconds, f"{seconds:.2f}", f"{slow / seconds:.1f} x", f"{same:.4%}", difference))
    head = ("layer, sparsity 0.9", "published, s", "obs, s", "faster", "same mask", "error differs by")
    text = "## Exact OBS against the published procedure\n\n" + table(head, lines)
    write_section("obs", COMMAND + " --only obs", text)


def real_layers(arguments: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """Weight (r, c), Hessian and damped Hessian (c, c), kernel width of every prunable layer, for every image."""
    classifier, images = _subject(arguments)
    layers = [layer.name for layer in find_layers(classifier.model) if layer.reason is None]
    modules: dict[str, nn.Module] = dict(classifier.model.named_modules())
    for image in images:
        samples = augment.paper(image, 256, classifier.preprocessing, 0)
        statistics = calibrate(classifier, samples, layers, Calibration(), 0)
        for name in layers:
            plain = statistics.hessians[name]
            damped, _ = damp(plain, 0.01)
            assert isinstance(damped, Tensor) and isinstance(plain, Tensor)
            yield weight_matrix(modules[name])[0], plain[0], damped[0], block_of(modules[name])


def _subject(arguments: argparse.Namespace) -> tuple[Classifier, list[Tensor]]:
    if arguments.network:
        source = ModelSource("squeezenet1_1", weights=str(arguments.network))
        return load_model(source), [as_image(path) for path in arguments.images]
    from spade_cli.world import demo_classifier, draw_pictures

    return demo_classifier(), list(draw_pictures(2, seed=5_000_000).images)


def against_obs_on_real_layers(arguments: argparse.Namespace) -> None:
    """What forward selection loses and takes, beside exact OBS and the published FastSPADE."""
    found: dict[float, list[tuple[float, ...]]] = {level: [] for level in LEVELS}
    for weight, plain, hessian, block in real_layers(arguments):
        for level in LEVELS:
            exact, obs_seconds = time_call(lambda: obs(weight[None], hessian[None], level, 1)[0])  # noqa: B023
            mine, forward_seconds = time_call(lambda: forward(weight[None], hessian[None], level, block)[0])  # noqa: B023
            fast, fast_seconds = time_call(lambda: published.fast_spade(weight, hessian, level, block))  # noqa: B023
            errors = [relative_error(weight[None], one[None], plain[None]) for one in (exact, mine, fast)]
            found[level].append((*errors, obs_seconds, forward_seconds, fast_seconds))
    lines = []
    for level, rows in found.items():
        to_obs = mean(mine / exact for exact, mine, *_ in rows)
        worst = max(mine / exact for exact, mine, *_ in rows)
        fast = mean(fast / exact for exact, _, fast, *_ in rows)
        totals = [sum(row[i] for row in rows) for i in (3, 4, 5)]
        cells = [f"{to_obs:.3f}", f"{worst:.3f}", f"{fast:.2f}", *(f"{total:.2f}" for total in totals)]
        lines.append((level, *cells, f"{totals[1] / totals[2]:.2f}"))
    head = (
        *("sparsity", "error: forward / OBS, mean", "worst layer", "FastSPADE / OBS"),
        *("OBS, s", "forward, s", "published FastSPADE, s", "forward / FastSPADE"),
    )
    what = "SqueezeNet 1.1 (ImageNet)" if arguments.network else "the bundled network"
    text = (
        f"## Forward selection against exact OBS and FastSPADE, {what}\n\n"
        f"All {len(next(iter(found.values())))} layers of {len(arguments.images) or 2} images, single weights, 256 "
        f"samples, damping 0.01; errors on the undamped Hessian, seconds summed over layers.\n\n" + table(head, lines)
    )
    write_section("forward", COMMAND + " --only forward [--network ... --images ...]", text)


def on_wide_layers(arguments: argparse.Namespace) -> None:
    """ResNet50's widest shapes, and VGG16's first linear layer."""
    lines = []
    for rows, columns, block in ((1000, 2048, 1), (2048, 512, 1), (512, 2048, 1), (512, 4608, 9)):
        weight, hessian = draw_layer(rows, columns)
        fast, fast_seconds = time_call(lambda: published.fast_spade(weight, hessian, 0.9, block))  # noqa: B023
        _, ours_seconds = time_call(lambda: sparsegpt(weight[None], hessian[None], 0.9, block)[0])  # noqa: B023
        for level in (0.9, 0.95, 0.99):
            mine, seconds = time_call(lambda: forward(weight[None], hessian[None], level, block)[0])  # noqa: B023
            if level != 0.9:
                fast = published.fast_spade(weight, hessian, level, block)
            errors = [relative_error(weight[None], one[None], hessian[None]) for one in (mine, fast)]
            cells = [f"{errors[0]:.3f}", f"{errors[1]:.3f}", f"{seconds:.1f}", f"{fast_seconds:.1f}"]
            lines.append((f"{rows} x {columns}", level, *cells, f"{ours_seconds:.1f}"))
    head = ("layer", "sparsity", "error, forward", "error, FastSPADE", "forward, s", "published FastSPADE, s")
    text = "## Wide layers\n\nResNet50's widest shapes, inputs made up.\n\n"
    text += table((*head, "our sparsegpt, s"), lines)
    child = subprocess.run([sys.executable, __file__, "--vgg-child"], capture_output=True, text=True, check=True)
    text += f"\n\nVGG16's first linear layer, 4096 x 25088, {WIDE_SAMPLES} samples, `forward` at 0.9: {child.stdout}"
    write_section("wide", COMMAND + " --only wide", text)


def vgg_child() -> None:
    """In a process of its own, so that its memory can be told."""
    inputs = torch.randn(1, WIDE_SAMPLES, 25088).relu().mul_((2 / WIDE_SAMPLES) ** 0.5)
    weight = torch.randn(1, 4096, 25088) / 25088**0.5
    damped, _ = damp(LowRank(inputs, torch.zeros(1)), 0.01)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pruned, seconds = time_call(lambda: forward(weight, damped, 0.9, 1))  # type: ignore[arg-type]
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    error = relative_error(weight, pruned, damped)
    print(f"{seconds:.0f} s, {extra:.2f} GiB beyond weights and samples, relative error {error:.4f}.")


def time_sizes(_: argparse.Namespace) -> None:
    """Seconds against width, rows and sparsity, as a picture."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained", sharey=True)
    widths, row_counts, levels = (128, 256, 512, 1024, 2048), (32, 128, 512, 2048), (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    solvers = {"forward": forward, "sparsegpt": sparsegpt, "obs": obs}
    for name, solver in solvers.items():
        for axis, points in zip(axes, (widths, row_counts, levels), strict=True):
            seconds = []
            for point in points:
                rows, columns, level = 128, 512, 0.9
                if axis is axes[0]:
                    columns = int(point)
                elif axis is axes[1]:
                    rows = int(point)
                else:
                    level = point
                if name == "obs" and (columns > 1024 or rows > 512):
                    continue
                weight, hessian = draw_layer(rows, columns)
                solve = lambda s=solver, w=weight, h=hessian, q=level: s(w[None], h[None], q, 1)  # noqa: E731
                seconds.append(time_call(solve)[1])
            axis.plot(points[: len(seconds)], seconds, marker="o", label=name)
    for axis, label in zip(axes, ("columns (128 rows, 0.9)", "rows (512 columns, 0.9)", "sparsity"), strict=True):
        axis.set(xlabel=label, yscale="log")
        axis.grid(alpha=0.3)
        if axis is not axes[2]:
            axis.set_xscale("log", base=2)
    axes[0].set_ylabel("seconds")
    axes[0].legend(frameon=False)
    figure.savefig(PAGE.with_name("benchmarks.png"), dpi=110)
    text = "## How the time of a layer grows\n\n![Seconds against columns, rows and sparsity](benchmarks.png)"
    write_section("scaling", COMMAND + " --only scaling", text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, help="a state dict of torchvision's squeezenet1_1")
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="photographs to measure it on")
    parser.add_argument("--only", nargs="*", help="sections: forward, obs, wide, scaling")
    parser.add_argument("--vgg-child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
