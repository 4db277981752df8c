"""The concept probe: a small network that tells the world's concepts apart, trained on drawn pictures alone.

It reads feature visualizations that it has never seen the like of. n: pictures; c: concepts; SIDE: pixels a side.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from spade_cli.errors import UserError
from spade_cli.files import write_whole
from spade_cli.world import CONCEPTS, draw_pictures

SIDE = 64  # the eye still recognises a concept at this size, and training takes a quarter of the time
EPOCHS = 12  # 5 s each on two cores; held-out accuracy does not grow any more
BATCH = 64
RATE = 2e-3  # of Adam, at its highest
HELD_OUT = 10  # pictures of each concept, to measure the probe itself
SEED = 5_000_000  # added to a run's: none of its pictures is evaluated on, and none trained the bundled network
VIEWS = 16  # parts of a picture whose readings are averaged: visualizations repeat their motif anywhere, in any size


@dataclass(frozen=True)
class Probe:
    """A trained probe. accuracy: on held-out pictures, choosing among the concepts of the picture's class."""

    network: nn.Module
    accuracy: float

    @torch.no_grad()
    def read(self, picture: Tensor, seed: int) -> Tensor:
        """Probability of each concept (c,) in a picture (3, H, W) in [0, 1]: the mean over random parts of it."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            crop = v2.RandomResizedCrop(SIDE, scale=(0.3, 1.0), ratio=(0.9, 1.1), antialias=True)
            views = torch.stack([crop(picture) for _ in range(VIEWS)])  # (VIEWS, 3, SIDE, SIDE)
        scores: Tensor = self.network(_normalise(views))  # (VIEWS, c)
        return scores.double().softmax(1).mean(0)


def probe_network() -> nn.Module:
    """Convolutions, then the mean over positions: it asks what is there, not where. (n, 3, SIDE, SIDE) -> (n, c)."""
    widths, layers = (3, 24, 48, 96), list[nn.Module]()
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.Conv2d(96, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(CONCEPTS)))


def train_probe(pictures: int, seed: int, on_epoch: Callable[[int], None] | None = None, epochs: int = EPOCHS) -> Probe:
    """Train on `pictures` drawings of each concept, cropped, flipped and recoloured; the same seed, the same probe."""
    images, concepts = _draw_concepts(pictures, SEED + seed)  # uint8 (n, 3, h, w), (n,)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = probe_network().train()
        steps = epochs * -(-len(images) // BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).split(BATCH):
                loss = F.cross_entropy(network(_normalise(_vary(images[chosen]))), concepts[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if on_epoch is not None:
                on_epoch(1)
    probe = Probe(network.eval().requires_grad_(False), 0.0)
    return Probe(probe.network, _accuracy(probe, seed))


def probe_at(path: Path, pictures: int, seed: int, on_epoch: Callable[[int], None] | None = None) -> Probe:
    """The probe in the file `path`, trained and saved first where there is none. Raises UserError for another file."""
    wanted = {"pictures": pictures, "seed": seed}
    if path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                kept = json.loads((file.metadata() or {})["probe"])
                network = probe_network()
                network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no dict)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} cannot be read as a probe ({error}); delete it, and one is trained anew") from None
        if {key: kept.get(key) for key in wanted} == wanted:
            return Probe(network.eval().requires_grad_(False), kept["accuracy"])
    probe = train_probe(pictures, seed, on_epoch)
    state = {name: value.contiguous() for name, value in probe.network.state_dict().items()}
    content = save(state, {"probe": json.dumps({**wanted, "accuracy": probe.accuracy})})
    write_whole(path, lambda part: part.write_bytes(content))
    return probe


def rivals(concept: int) -> list[int]:
    """All concepts of this one's class: what the class neuron may show."""
    return [i for i, one in enumerate(CONCEPTS) if one.class_index == CONCEPTS[concept].class_index]


def _draw_concepts(pictures: int, seed: int) -> tuple[Tensor, Tensor]:
    """`pictures` of each concept, halved in size: uint8 (n, 3, h, w), concepts (n,)."""
    drawn = [draw_pictures(pictures, seed, i * pictures, concept=i).images for i in range(len(CONCEPTS))]
    images = F.avg_pool2d(torch.cat(drawn).float(), 2).round().byte()
    return images, torch.arange(len(CONCEPTS)).repeat_interleave(pictures)


def _vary(images: Tensor) -> Tensor:
    """uint8 (n, 3, h, w) -> (n, 3, SIDE, SIDE) in [0, 1], cropped and recoloured: visualizations have odd colours."""
    crop = v2.RandomResizedCrop(SIDE, scale=(0.35, 1.0), ratio=(0.8, 1.25), antialias=True)
    parts = [v2.RandomHorizontalFlip()(crop(part)) for part in images.split(8)]  # one crop for eight pictures: quicker
    batch = torch.cat(parts).float() / 255
    n = len(batch)
    contrast, brightness = 0.5 + torch.rand(n, 1, 1, 1), 0.3 * (torch.rand(n, 1, 1, 1) - 0.5)
    grey = batch.mean(1, keepdim=True)
    saturation = 2 * torch.rand(n, 1, 1, 1)
    batch = grey + saturation * (batch - grey)
    batch = (batch - 0.5) * contrast + 0.5 + brightness
    batch = batch + 0.15 * torch.rand(n, 1, 1, 1) * torch.randn_like(batch)
    tint = 1 + 0.3 * (torch.rand(n, 3, 1, 1) - 0.5)
    return (batch * tint).clamp(0, 1)


def _normalise(batch: Tensor) -> Tensor:
    """Each picture less its mean, over its deviation: (n, 3, SIDE, SIDE) in [0, 1] -> the same shape."""
    flat = batch.flatten(1)
    mean, deviation = flat.mean(1)[:, None, None, None], flat.std(1)[:, None, None, None]
    return (batch - mean) / (deviation + 0.05)


@torch.no_grad()
def _accuracy(probe: Probe, seed: int) -> float:
    """Share of held-out pictures whose concept gets the most of their class's probability."""
    hits = []
    for concept in range(len(CONCEPTS)):
        images = draw_pictures(HELD_OUT, SEED + seed + 1, concept * HELD_OUT, concept=concept).images
        for number, image in enumerate(images):
            found = probe.read(image.float() / 255, seed + number)  # (c,)
            hits.append(max(rivals(concept), key=lambda one: float(found[one])) == concept)
    return sum(hits) / len(hits)
