"""One device beside the CPU: seconds, memory, and whether both find the same. `scripts/bench_gpu.py` runs each part.

    python scripts/bench_devices.py solvers --device cuda

Prints a line of JSON for each thing that was measured, as soon as it is. A device is warmed up by one small call first.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any

import bench_networks
import torch
from torch import Tensor, nn

import spade_cli
from spade_cli.images import augment
from spade_cli.interpretation import METHODS, Channel, explainable, visualize
from spade_cli.models import Classifier
from spade_cli.pruning import find_layers, find_pruner
from spade_cli.pruning.solvers.damped_hessian import damp, relative_error
from spade_cli.run.calibrate import Calibration, calibrate

# What two devices may differ by: sums in another order, which may decide near ties otherwise.
SAME_HESSIAN = 1e-3  # relative, Frobenius
SAME_ERROR = 1e-2  # relative, of a pruned layer's error on the same Hessian
SAME_WEIGHTS = 0.98  # share of a layer's weights, or of a trace's, that both remove or both keep
SAME_MAP = 0.99  # correlation
DRAWING = ("lime", "gradient_shap")  # methods that draw their random numbers on the device: others are drawn there
SHARES = {"forward": 0.95, "sparsegpt": 0.95, "obs": 0.9, "wanda": 0.95, "magnitude": 0.95}
SHAPES = ((64, 512), (512, 1024), (512, 4608))  # rows and columns of layers
EXACT_COLUMNS = 1024  # up to which the exact pruner is tried
Found = tuple[str, float, float, str]  # what is compared, its value, its limit, "at most" or "at least"


def main() -> None:
    """One part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small layers and networks, to try the script")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    _ = torch.linalg.cholesky(torch.eye(8, device=device) @ torch.eye(8, device=device))
    for row in PARTS[asked.part](device, asked.quick):
        print(json.dumps(row), flush=True)


def compare(name: str, device: torch.device, run: Callable[[torch.device], Any], judge: Callable[..., Found]) -> dict:
    """`run` on the device and on the CPU: seconds of both, the device's memory, what `judge` says of the results."""
    found, seconds = {}, {}
    for place in (device, torch.device("cpu")):  # the device first: the CPU may take the rest of the time
        if place.type == "cuda":
            torch.cuda.synchronize(place)
            torch.cuda.reset_peak_memory_stats(place)
        started = perf_counter()
        key = "cpu" if "device" in found else "device"
        found[key] = run(place)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        seconds[key] = perf_counter() - started
    what, value, limit, side = judge(found["device"], found["cpu"])
    same = value <= limit if side == "at most" else value >= limit
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    shown = {"name": name, "device": seconds["device"], "cpu": seconds["cpu"], "memory": memory}
    return {**shown, "compared": what, "value": value, "limit": f"{side} {limit:g}", "same": bool(same)}


def classifier_on(device: torch.device, quick: bool) -> Classifier:
    """ResNet50's shapes (scripts/bench_networks.py), or a small network."""
    network = bench_networks.resnet_for_tests() if quick else bench_networks.resnet50()
    size = 64 if quick else 224
    return spade_cli.wrap(network.to(device), name="resnet50", size=size)


def picture(quick: bool) -> Tensor:
    """uint8 (3, H, W), soft patches."""
    generator = torch.Generator().manual_seed(1)
    size = 64 if quick else 224
    patches = nn.functional.interpolate(torch.rand(1, 3, 7, 7, generator=generator), size=size, mode="bilinear")
    return (255 * patches[0]).to(torch.uint8)


def statistics(device: torch.device, quick: bool) -> Iterator[dict]:
    """The Hessians of every layer that can be pruned, in both precisions of the forward pass."""
    classifiers = {place: classifier_on(place, quick) for place in {device, torch.device("cpu")}}
    names = [one.name for one in find_layers(classifiers[device].model) if one.reason is None]
    samples = augment.paper(picture(quick), 8 if quick else 256, classifiers[device].preprocessing, 0)

    def run(place: torch.device, precision: str) -> dict[str, Tensor]:
        how = Calibration(precision=precision)
        return calibrate(classifiers[place], samples, names, how, 0).hessians

    def judge(ours: dict[str, Tensor], theirs: dict[str, Tensor], limit: float) -> Found:
        different = [float((ours[name].cpu() - theirs[name]).norm() / theirs[name].norm()) for name in names]
        return "largest relative difference of a Hessian", max(different), limit, "at most"

    yield compare("statistics, float32", device, partial(run, precision="float32"), partial(judge, limit=SAME_HESSIAN))
    yield compare("statistics, auto", device, partial(run, precision="auto"), partial(judge, limit=0.1))


def solvers(device: torch.device, quick: bool) -> Iterator[dict]:
    """Every pruner on layers of several widths."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((16, 48),) if quick else SHAPES:
        x = torch.randn(2 * columns, columns, generator=generator)
        x = (x + 0.3 * x.roll(1, 1) + 0.3 * x.roll(7, 1)).relu()
        weight = torch.randn(1, rows, columns, generator=generator) / columns**0.5
        damped, _ = damp((x.T @ x / columns)[None], 0.01)
        for name, share in SHARES.items():
            if name == "obs" and columns > EXACT_COLUMNS:
                continue

            def run(place: torch.device, name: str = name, share: float = share) -> Tensor:
                return find_pruner(name)(weight.to(place), damped.to(place), share, 1).cpu()  # noqa: B023

            def judge(ours: Tensor, theirs: Tensor) -> Found:
                first, second = (relative_error(weight, one, damped) for one in (ours, theirs))  # noqa: B023
                return "relative difference of the error", abs(first / second - 1), SAME_ERROR, "at most"

            yield compare(f"{name} at {share}, {rows} x {columns}", device, run, judge)


def search(device: torch.device, quick: bool) -> Iterator[dict]:
    """A trace with default settings: load is not counted."""
    classifiers = {place: classifier_on(place, quick) for place in {device, torch.device("cpu")}}
    image = picture(quick)
    small = {"samples": 8} if quick else {}

    def run(place: torch.device) -> Any:
        return spade_cli.trace(classifiers[place], image, **small)

    def judge(ours: Any, theirs: Any) -> Found:
        pairs = zip(ours.layers, theirs.layers, strict=True)
        if any(one.achieved != other.achieved for one, other in pairs):
            return "layers that got the same share", 0.0, 1.0, "at least"
        weights = [dict(trace.model.named_parameters()) for trace in (ours, theirs)]
        names = [f"{layer.name}.weight" for layer in ours.layers if layer.left is None]
        same = [((weights[0][name].cpu() == 0) == (weights[1][name] == 0)).float().mean() for name in names]
        return "least share of a layer's weights that both keep or remove", float(min(same)), SAME_WEIGHTS, "at least"

    yield compare("trace, default settings", device, run, judge)


def maps(device: torch.device, quick: bool) -> Iterator[dict]:
    """Every saliency method on the dense network."""
    classifiers = {place: classifier_on(place, quick) for place in {device, torch.device("cpu")}}
    image = picture(quick)
    settings: dict[str, dict[str, int]] = {"lime": {"samples": 8}, "occlusion": {"window": 32, "stride": 32}}

    def run(place: torch.device, name: str) -> Tensor:
        own = classifiers[place].preprocessing
        x = own.normalise(own.view(image).to(place))
        more = settings.get(name, {}) if quick else {}
        return METHODS[name](explainable(classifiers[place].model, x), x, 0, **more).map.cpu()

    def judge(ours: Tensor, theirs: Tensor, least: float) -> Found:
        together = torch.stack([ours.flatten(), theirs.flatten()]).double()
        return "correlation of the maps", float(torch.corrcoef(together)[0, 1]), least, "at least"

    for name in METHODS:
        if name in ("gradient_rollout", "legrad"):
            continue  # the networks here have no attention
        least = 0.0 if name in DRAWING else SAME_MAP
        yield compare(name, device, partial(run, name=name), partial(judge, least=least))


def visualizations(device: torch.device, quick: bool) -> Iterator[dict]:
    """Two visualizations in one batch: steps on which pictures of two devices may drift apart, so both must excite."""
    classifiers = {place: classifier_on(place, quick) for place in {device, torch.device("cpu")}}
    own = classifiers[device].preprocessing
    layer = "layer4.0" if quick else "layer4.2"
    targets = [Channel(layer, channel) for channel in (0, 1)]

    def run(place: torch.device) -> Tensor:
        steps = 3 if quick else 256
        return visualize([classifiers[place].model], targets, size=own.size, mean=own.mean, std=own.std, steps=steps)

    def judge(ours: Tensor, theirs: Tensor) -> Found:
        excited = [excitation(classifiers[torch.device("cpu")], layer, pictures) for pictures in (ours, theirs)]
        return "excitation of the channels, against the CPU's pictures", float(excited[0] / excited[1]), 0.8, "at least"

    yield compare("two visualizations", device, run, judge)


@torch.no_grad()
def excitation(classifier: Classifier, layer: str, pictures: Tensor) -> Tensor:
    """The mean of channel i over picture i, mean over the pictures (n, 3, size, size) in [0, 1]."""
    seen: list[Tensor] = []
    module = classifier.model.get_submodule(layer)
    hook = module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    classifier.model(classifier.preprocessing.normalise(pictures))
    hook.remove()
    return torch.stack([seen[0][i, i].mean() for i in range(len(pictures))]).mean()


PARTS: dict[str, Callable[[torch.device, bool], Iterator[dict]]] = {
    "statistics": statistics,
    "solvers": solvers,
    "maps": maps,
    "visualizations": visualizations,
    "search": search,
}


if __name__ == "__main__":
    main()
