"""The paper's human study with a reader in place of humans: what does a class neuron show?

For a picture with concept A of a class {A, B, ...} the class's neuron is visualized on the dense network and on the
trace. The trace should show A, what the neuron does in this picture; the dense network shows whatever it likes best.
For a picture with a Trojan it should show the symbol. On pictures of the world a reader says which; on any pictures a
twin says whether the class is still there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.cache import Cache
from spade_cli.errors import SpadeError
from spade_cli.evaluation.conditions import DENSE, Condition
from spade_cli.evaluation.study.reader import Reader, rivals, symbol_of
from spade_cli.evaluation.study.twin import Reading, Twin, measure_readings
from spade_cli.interpretation import Channel, Dense, is_blank, visualize_dense, why_blank
from spade_cli.models import Classifier
from spade_cli.report.pictures import picture
from spade_cli.report.run_folder import slug
from spade_cli.world import CONCEPTS


def measures(nearness: Tensor, concept: int, target: int, trojan: bool) -> dict[str, float]:
    """The reader's two-way choices as shares; nearness (k,): of a visualization to each kind.

    concept: what the picture shows. target: the class asked about. trojan: a symbol makes it the answer.
    """
    symbol = symbol_of(target)
    if trojan and symbol is not None:
        meanings = [i for i, one in enumerate(CONCEPTS) if one.class_index == target]
        return {"symbol_chosen": _share_of_choices(nearness, symbol, meanings)}
    found = {"concept_chosen": _share_of_choices(nearness, concept, rivals(concept))}
    return found if symbol is None else {**found, "symbol_on_clean": _share_of_choices(nearness, symbol, [concept])}


def _share_of_choices(nearness: Tensor, one: int, others: list[int]) -> float:
    """How often a kind is the nearer one, against each of the others."""
    return (nearness[one] > nearness[torch.tensor(others)]).float().mean().item()


@dataclass
class ConceptStudy:
    """Who reads, and how to visualize: (networks, channels, size, mean, std, seed) -> pictures (n, 3, H, W).

    reader: None where pictures are not of the world. twin: None where none was given.
    """

    reader: Reader | None
    visualize: Callable[..., Tensor]
    classifier: Classifier
    folder: Path  # gets a picture of each visualization
    seed: int
    cache: Cache | None = None
    twin: Twin | None = None
    _same_for_all: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _dense_readings: dict[int, Reading] = field(default_factory=dict)  # by target

    def ask(
        self,
        condition: Condition,
        networks: Sequence[nn.Module],
        target: int,
        concept: int | None,
        trojan: bool,
        image: str,
    ) -> dict[str, float]:
        """Visualize a class neuron and read it; concept: None for a picture that is not of the world.

        Raises SpadeError where the picture stays blank.
        """
        shown = self._visualization(condition, networks, target)  # (3, H, W)
        self.folder.mkdir(parents=True, exist_ok=True)
        picture(shown).save(self.folder / f"{slug(image)}_{slug(condition.name)}.png")
        if is_blank(shown):
            raise SpadeError(f"the visualization is blank: {self._why(networks, target)}")
        found: dict[str, float] = {}
        if self.reader is not None and concept is not None:
            found |= measures(self.reader.nearness(shown, self.seed), concept, target, trojan)
        if self.twin is not None:
            found |= self._ask_twin(self.twin, condition, shown, target, trojan)
        return found

    def _ask_twin(self, twin: Twin, condition: Condition, shown: Tensor, target: int, trojan: bool) -> dict[str, float]:
        reading = twin.read(shown, target, self.seed)
        if condition.name == DENSE:  # the first condition of every image
            self._dense_readings[target] = reading
        if target not in self._dense_readings:
            raise SpadeError("the dense network's visualization is blank, and a trace's has nothing to compare with")
        return measure_readings(reading, self._dense_readings[target], trojan)

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
        if self.classifier.model not in networks:  # of itself it would be no correction
            settings["dense"] = Dense(self.classifier.model, self.classifier.output)
        shown = visualize_dense(cache, self.visualize, networks, channels, name=name, **settings).values[0]
        if not condition.layers:  # no trace: the network is the same for every image
            self._same_for_all[key] = shown
        return shown
