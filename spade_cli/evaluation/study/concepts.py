"""The paper's human study with a probe in place of humans: which concept of its class does a class neuron show?

For a picture with concept A of a class {A, B, ...} the class's neuron is visualized on the dense network and on the
trace. The trace should show A, what the neuron does in this picture; the dense network shows whatever it likes best.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spade_cli.cache import Cache
from spade_cli.errors import SpadeError
from spade_cli.evaluation.conditions import Condition
from spade_cli.evaluation.study.probe import Probe, rivals
from spade_cli.interpretation import Channel, is_blank, visualize_dense, why_blank
from spade_cli.models import Classifier
from spade_cli.report.pictures import picture
from spade_cli.report.run_folder import slug

ANSWERS = ("agree", "disagree", "undecided")


def answer(probabilities: Tensor, concept: int, margin: float) -> str:
    """What the probe's probabilities (concepts,) say of a visualization: agree, disagree or undecided.

    Undecided is where no concept of the class leads the next by the margin: it shows several of them, or none.
    """
    among = rivals(concept)
    first, second = sorted(among, key=lambda one: float(probabilities[one]), reverse=True)[:2]
    if float(probabilities[first] - probabilities[second]) < margin:
        return "undecided"
    return "agree" if first == concept else "disagree"


def measures(answer: str) -> dict[str, float]:
    """An answer as measures: their means over images are the rows of the paper's table."""
    found = {f"concept_{name}": float(answer == name) for name in ANSWERS}
    return found if answer == "undecided" else {**found, "concept_agree_decided": float(answer == "agree")}


@dataclass
class ConceptStudy:
    """The probe, and how to visualize: (networks, channels, size, mean, std, seed) -> pictures (n, 3, size, size)."""

    probe: Probe
    visualize: Callable[..., Tensor]
    classifier: Classifier
    folder: Path  # gets a picture of each visualization
    margin: float
    seed: int
    cache: Cache | None = None
    _same_for_all: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def ask(
        self, condition: Condition, networks: Sequence[nn.Module], target: int, concept: int, image: str
    ) -> dict[str, float]:
        """Visualize a class neuron and read it. Raises SpadeError where the picture stays blank."""
        shown = self._visualization(condition, networks, target)  # (3, size, size)
        self.folder.mkdir(parents=True, exist_ok=True)
        picture(shown).save(self.folder / f"{slug(image)}_{slug(condition.name)}.png")
        if is_blank(shown):
            raise SpadeError(f"the visualization is blank: {self._why(networks, target)}")
        return measures(answer(self.probe.read(shown, self.seed), concept, self.margin))

    def _why(self, networks: Sequence[nn.Module], target: int) -> str:
        own = self.classifier.preprocessing
        settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": self.seed}
        return why_blank(self.visualize, networks, Channel(None, target), **settings)

    def _visualization(self, condition: Condition, networks: Sequence[nn.Module], target: int) -> Tensor:
        key = (condition.name, target)
        if key in self._same_for_all:
            return self._same_for_all[key]
        own = self.classifier.preprocessing
        channels = [Channel(None, target)]
        cache, name = self.cache if not condition.layers else None, self.classifier.name
        settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": self.seed}
        shown = visualize_dense(cache, self.visualize, networks, channels, name=name, **settings).values[0]
        if not condition.layers:  # no trace: the network is the same for every image
            self._same_for_all[key] = shown
        return shown
