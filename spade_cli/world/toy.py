"""The paper's two-dimensional example: one neuron with two meanings, and which of them its visualizations show.

Points lie in [0, 9]^2; a small network says whether a point lies in one of two disks, a large and a small one. Gradient
ascent on its output neuron from many starts is the neuron's feature visualization (Moakhar et al. 2024, figure 2). The
paper gives neither the network nor the losses: they are ours here.
n: points.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spade_cli.pruning import collect, find_layers, prune
from spade_cli.pruning.solvers.forward import forward

SIDE = 9.0
WIDTH = 100  # neurons of a hidden layer
STEPS, BATCH, RATE = 2000, 512, 3e-3  # of training with Adam: every point is classified rightly after half of them
POINTS = 8000  # of training
STARTS = 400  # of gradient ascent
ASCENT_STEPS, ASCENT_RATE = 400, 0.05  # far enough to cross the square
SAMPLES, SPREAD = 512, 0.6  # a trace's samples: the point under Gaussian noise of this deviation, a small disk's size
# Shares of the weights that a trace loses; the first layer sees the point itself and stays dense. With less removed
# from the hidden layer, a trace of the small disk still knows the large one.
HIDDEN, HIDDEN_SHARES = "2", (0.96, 0.97, 0.98)
HEAD, HEAD_SHARE = "4", 0.93
DRAWS = 4  # of samples for each share


@dataclass(frozen=True)
class Disk:
    """Where the network answers yes."""

    name: str
    centre: tuple[float, float]
    radius: float

    def holds(self, points: Tensor) -> Tensor:
        """Which points (n, 2) lie in it, bool (n,)."""
        distances: Tensor = torch.linalg.vector_norm(points - torch.tensor(self.centre), dim=1)
        return distances < self.radius


LARGE, SMALL = Disk("large", (4.0, 4.0), 2.0), Disk("small", (1.0, 1.0), 0.5)
DISKS = (LARGE, SMALL)


@dataclass(frozen=True)
class Visualizations:
    """Visualizations of the output neuron of one network."""

    title: str
    points: Tensor  # (n, 2): where gradient ascent ended

    def share(self, disk: Disk) -> float:
        """The share of them that lies in the disk."""
        return float(disk.holds(self.points).float().mean())


def visualize_networks(model: nn.Module, seed: int) -> list[Visualizations]:
    """Of the dense network, of its traces of a sample in the large disk, and of those of one in the small disk."""
    shown = [Visualizations("dense network", visualize_output([model], seed))]
    for disk in DISKS:
        traces = make_traces(model, disk.centre, seed)
        shown.append(Visualizations(f"traces of a sample in the {disk.name} disk", visualize_output(traces, seed)))
    return shown


def train_network(seed: int, on_step: Callable[[int], None] | None = None) -> nn.Sequential:
    """A network of two hidden layers, (n, 2) -> (n, 1), positive in the disks; points are scaled by the caller."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        points, inside = training_points()  # (n, 2), (n,)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            chosen = torch.randint(len(points), (BATCH,))
            logits = model(scale_points(points[chosen]))[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, inside[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            if on_step is not None:
                on_step(1)
        optimizer.zero_grad()
    return model.eval()


def training_points() -> tuple[Tensor, Tensor]:
    """Points (n, 2) and whether they are in a disk (n,): half of them uniform, a quarter in each disk."""
    uniform = SIDE * torch.rand(POINTS // 2, 2)
    points = torch.cat([uniform, *(_draw_in_disk(disk, POINTS // 4) for disk in DISKS)])
    return points, (LARGE.holds(points) | SMALL.holds(points)).float()


def _draw_in_disk(disk: Disk, count: int) -> Tensor:
    radius, angle = disk.radius * torch.rand(count).sqrt(), 2 * math.pi * torch.rand(count)
    return torch.tensor(disk.centre) + radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def scale_points(points: Tensor) -> Tensor:
    """[0, 9] -> about unit variance around zero."""
    return (points - SIDE / 2) / (SIDE / math.sqrt(12))


def make_traces(model: nn.Module, point: tuple[float, float], seed: int) -> list[nn.Module]:
    """The network pruned for one point, several times: each trace has its own samples, the point under noise.

    What a trace answers far from its samples is an accident, and one trace in three climbs somewhere else. Traces of
    other samples and shares have other accidents.
    """
    layers, traces = find_layers(model), []
    for number, share in enumerate(HIDDEN_SHARES * DRAWS):
        generator = torch.Generator().manual_seed(100 * seed + number)
        samples = torch.tensor(point) + SPREAD * torch.randn(SAMPLES, 2, generator=generator)
        shares = {HIDDEN: share, HEAD: HEAD_SHARE}
        statistics = collect(model, [scale_points(samples)], shares, samples=SAMPLES, rows_per_column=None)
        traces.append(prune(model, layers, shares, statistics, forward).model)
    return traces


def visualize_output(models: Sequence[nn.Module], seed: int) -> Tensor:
    """Where gradient ascent on the models' mean output ends, (n, 2), from uniform starts; it stays in the square."""
    generator = torch.Generator().manual_seed(seed)
    points = (SIDE * torch.rand(STARTS, 2, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=ASCENT_RATE, maximize=True)
    for _ in range(ASCENT_STEPS):
        optimizer.zero_grad()
        outputs = torch.stack([model(scale_points(points)) for model in models])  # (models, n, 1)
        (gradient,) = torch.autograd.grad(outputs.mean(0).sum(), points)
        points.grad = gradient
        optimizer.step()
        with torch.no_grad():
            points.clamp_(0, SIDE)
    return points.detach()


def draw_toy(shown: list[Visualizations], path: Path, kind: str | None = None) -> None:
    """One panel a network, as in the paper's figure: the disks, and where the visualizations ended.

    kind: png, pdf or svg; None: as the path ends.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(4.2 * len(shown), 4.9), layout="constrained")
    for one, axes in zip(shown, figure.subplots(1, len(shown)), strict=True):
        for disk in DISKS:
            axes.add_patch(Circle(disk.centre, disk.radius, facecolor="#dce8f5", edgecolor="#5b88b5", linewidth=1.2))
        axes.scatter(*one.points.T.numpy(), s=22, color="#c0392b", alpha=0.35, linewidths=0, zorder=3)
        axes.set(xlim=(0, SIDE), ylim=(0, SIDE), aspect="equal", xlabel="first feature", ylabel="second feature")
        shares = ", ".join(f"{one.share(disk):.0%} in the {disk.name} disk" for disk in DISKS)
        axes.set_title(f"{one.title}\n{shares}", fontsize=10.5)
    figure.savefig(path, dpi=130, format=kind)
