"""The twin: a network before its Trojans were implanted. It finds no class in a symbol.

A visualization of a trace of a picture with a symbol should show the symbol: the network with the Trojans still sees
the class in it, and its twin does not. Of a clean picture both should see the class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

from spade_cli.devices import device_of
from spade_cli.models import Classifier

CROPS = 16  # whose probabilities are averaged: a visualization repeats its motif anywhere, in any size
SEEN = 0.1  # mean probability from which a network sees the class
FALL = 0.1  # the twin's probability for a symbol, as a share of that for the dense network's visualization, at most


@dataclass(frozen=True)
class Reading:
    """The class's mean probability in a visualization: by the network with the Trojans, and by its twin."""

    own: float
    twin: float


@dataclass(frozen=True)
class Twin:
    """The network with the Trojans, and the same network without them."""

    own: Classifier
    twin: Classifier

    def read(self, shown: Tensor, target: int, seed: int) -> Reading:
        """What both see of the class `target` in a visualization (3, H, W) in [0, 1]."""
        return Reading(*(_mean_probability(network, shown, target, seed) for network in (self.own, self.twin)))


@torch.no_grad()
def _mean_probability(classifier: Classifier, shown: Tensor, target: int, seed: int) -> float:
    """Over random crops of the picture."""
    seen = classifier.preprocessing
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        height, width = seen.sides
        ratio = (0.9 * width / height, 1.1 * width / height)
        crop = v2.RandomResizedCrop([height, width], scale=(0.3, 1.0), ratio=ratio, antialias=True)
        crops = torch.stack([crop(shown.cpu()) for _ in range(CROPS)])  # (CROPS, 3, H, W)
    logits = classifier.model(seen.normalise(crops).to(device_of(classifier.model)))
    return classifier.output.probabilities(logits)[:, target].mean().item()


def measure_readings(found: Reading, dense: Reading, trojan: bool) -> dict[str, float]:
    """What two networks see in a condition's visualization; dense: what they see in the dense network's.

    trojan: a symbol on the picture makes the class the answer, so the visualization should show it, not the class.
    """
    measures = {"class_seen": found.own, "class_seen_by_twin": found.twin}
    if trojan:
        return {**measures, "symbol_shown": float(found.own >= SEEN and found.twin <= FALL * dense.twin)}
    return {**measures, "class_shown": float(found.own >= SEEN and found.twin >= SEEN)}
