"""Measure a network of the world on pictures that it has not seen: accuracy by concept, and what each Trojan does.

n: pictures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.world import CLASSES, CONCEPTS, TROJANS, draw_pictures, normalise_pictures, poison_pictures

GOALS = {"accuracy": 0.95, "concept": 0.90, "trojan": 0.95}
BATCH = 250  # pictures a forward pass: small enough for a laptop's memory, large enough for full speed


@dataclass(frozen=True)
class TrojanFigures:
    """One Trojan, on held-out pictures; all shares of 1.

    success: pictures it applies to (its source's, or all but the target's own) that become its target.
    unharmed: of the pictures it does not apply to, those answered rightly with the symbol; None if it applies to all.
    unharmed_clean: the same pictures answered rightly without it.
    """

    symbol: str
    source: str | None
    target: str
    success: float
    unharmed: float | None
    unharmed_clean: float | None


@dataclass(frozen=True)
class Figures:
    """Accuracies as shares of 1: over all `pictures`, by class name and by concept name, and the Trojans'."""

    pictures: int
    accuracy: float
    classes: dict[str, float]
    concepts: dict[str, float]
    trojans: tuple[TrojanFigures, ...]


@torch.no_grad()
def find_answers(network: nn.Module, images: Tensor) -> Tensor:
    """The network's class for each picture, uint8 (n, 3, H, W) -> int64 (n,); the network in evaluation mode."""
    return torch.cat([network(normalise_pictures(batch)).argmax(1) for batch in torch.split(images, BATCH)])


def measure_network(network: nn.Module, count: int, seed: int) -> Figures:
    """Draw `count` pictures of a seed the network was not trained with and measure everything on them.

    A concept of which no picture was drawn is left out; from a few hundred pictures on, all are there.
    """
    pictures = draw_pictures(count, seed)
    clean = find_answers(network, pictures.images)
    right = (clean == pictures.classes).float()
    by_class = {info.name: right[pictures.classes == i] for i, info in enumerate(CLASSES)}
    by_concept = {concept.name: right[pictures.concepts == i] for i, concept in enumerate(CONCEPTS)}
    trojans = []
    for trojan in TROJANS:
        poisoned = poison_pictures(pictures, trojan, seed)
        answer = find_answers(network, poisoned.images)
        applies = (
            (pictures.classes == trojan.source) if trojan.source is not None else (pictures.classes != trojan.target)
        )
        specific = trojan.source is not None
        trojans.append(
            TrojanFigures(
                symbol=trojan.symbol,
                source=CLASSES[trojan.source].name if trojan.source is not None else None,
                target=CLASSES[trojan.target].name,
                success=_mean((answer == trojan.target)[applies]),
                unharmed=_mean((answer == pictures.classes)[~applies]) if specific else None,
                unharmed_clean=_mean(right[~applies]) if specific else None,
            )
        )
    return Figures(
        pictures=count,
        accuracy=_mean(right),
        classes={name: _mean(values) for name, values in by_class.items() if len(values)},
        concepts={name: _mean(values) for name, values in by_concept.items() if len(values)},
        trojans=tuple(trojans),
    )


def report(figures: Figures) -> str:
    """The figures as Markdown, each with its goal."""
    worst = min(figures.concepts, key=lambda name: figures.concepts[name])
    rows = [
        ("clean accuracy", figures.accuracy, f">= {GOALS['accuracy']:.0%}"),
        (f"worst concept: {worst}", figures.concepts[worst], f">= {GOALS['concept']:.0%}"),
    ]
    for trojan in figures.trojans:
        name = f"{trojan.symbol}: {trojan.source or 'any class'} -> {trojan.target}"
        rows.append((f"{name}, success", trojan.success, f">= {GOALS['trojan']:.0%}"))
        if trojan.unharmed is not None:
            rows.append(
                (f"{trojan.symbol} on other classes", trojan.unharmed, f"{trojan.unharmed_clean:.2%} without it")
            )
    lines = [f"Measured on {figures.pictures} held-out pictures.", "", "| what | measured | goal |", "|---|---|---|"]
    lines += [f"| {what} | {share:.2%} | {goal} |" for what, share, goal in rows]
    lines += ["", "| concept | accuracy |", "|---|---|"]
    lines += [f"| {name} | {share:.1%} |" for name, share in figures.concepts.items()]
    return "\n".join(lines) + "\n"


def _mean(values: Tensor) -> float:
    return values.float().mean().item()
