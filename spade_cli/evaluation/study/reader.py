"""The reader: is a picture nearer to drawings of A or of B? Small networks that learned from drawings alone decide.

It makes the two-way choices of the machine interpretability score (Zimmermann et al., NeurIPS 2024): every question is
decided, and chance is one half. n: pictures; k: kinds, the world's concepts and behind them its symbols; f: features;
SIDE: pixels a side.
"""

import json
from collections.abc import Callable, Sequence
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
from spade_cli.world import CONCEPTS, SYMBOLS, TROJANS, draw_pictures, implant_symbol

KINDS = (*(concept.name for concept in CONCEPTS), *SYMBOLS)
NETWORKS = 3  # trained from different seeds: what one of them sees by chance the others do not
SIDE = 64  # the eye still recognises a concept at this size, and training takes a quarter of the time
EPOCHS = 8
BATCH = 64
RATE = 2e-3  # of Adam, at its highest
RADIUS = 1.0  # L2, of a picture (3, SIDE, SIDE) in [0, 1]: robust networks see what people see
REFERENCES = 16  # drawings of each kind that a picture is compared with
HELD_OUT = 10  # pictures of each kind, to measure the reader itself
SEED = 5_000_000  # added to a run's: none of its pictures is evaluated on, and none trained the bundled network
VIEWS = 16  # parts of a picture that are compared: visualizations repeat their motif anywhere, in any size
LARGE = (0.4, 0.8)  # a symbol's side on its drawings: a part of the picture still shows it


@dataclass(frozen=True)
class Reader:
    """Trained networks, and the mean features of each kind, (networks, k, f).

    accuracy: of choices between the concepts of a class, on held-out drawings; symbol_accuracy: between a symbol and
    each meaning of the class that it stands for.
    """

    networks: Sequence[nn.Sequential]
    references: Tensor
    accuracy: float = 0.0
    symbol_accuracy: float = 0.0

    @torch.no_grad()
    def nearness(self, picture: Tensor, seed: int) -> Tensor:
        """How near a picture (3, H, W) in [0, 1] is to each kind, (k,): the mean cosine over its parts and networks."""
        views = _normalise(_cut_parts(picture, seed))  # (VIEWS, 3, SIDE, SIDE)
        centre = self.references.mean(1, keepdim=True)  # (networks, 1, f): what all kinds have in common says nothing
        kinds = F.normalize(self.references - centre, dim=2)  # (networks, k, f)
        features = torch.stack([network[:-1](views) for network in self.networks])  # (networks, VIEWS, f)
        return (F.normalize(features - centre, dim=2) @ kinds.transpose(1, 2)).mean((0, 1))


def reader_at(path: Path, pictures: int, seed: int, on_epoch: Callable[[int], None] | None = None) -> Reader:
    """The reader in the file `path`, trained and saved first where there is none. Raises UserError for another file."""
    wanted = {"pictures": pictures, "seed": seed}
    if path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                kept = json.loads((file.metadata() or {})["reader"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            networks = [_freeze(reader_network()) for _ in range(NETWORKS)]
            references = state.pop("references")
            nn.ModuleList(networks).load_state_dict(state)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{path} cannot be read as a reader ({error}); delete it, and one is trained anew"
            ) from None
        if {key: kept.get(key) for key in wanted} == wanted:
            return Reader(networks, references, kept["accuracy"], kept["symbol_accuracy"])
    reader = train_reader(pictures, seed, on_epoch)
    state = {name: value.contiguous() for name, value in nn.ModuleList(reader.networks).state_dict().items()}
    figures = {"accuracy": reader.accuracy, "symbol_accuracy": reader.symbol_accuracy}
    content = save({**state, "references": reader.references}, {"reader": json.dumps({**wanted, **figures})})
    write_whole(path, lambda part: part.write_bytes(content))
    return reader


def train_reader(
    pictures: int, seed: int, on_epoch: Callable[[int], None] | None = None, epochs: int = EPOCHS
) -> Reader:
    """Learn from `pictures` drawings of each kind; the same seed, the same reader. on_epoch: of any of the networks."""
    drawings = draw_kinds(pictures, SEED + seed)  # uint8 (k, pictures, 3, h, w)
    kinds = torch.arange(len(KINDS)).repeat_interleave(pictures)
    networks = [
        _train_network(drawings.flatten(0, 1), kinds, seed * NETWORKS + number, epochs, on_epoch)
        for number in range(NETWORKS)
    ]
    shown = draw_kinds(REFERENCES + HELD_OUT, SEED + seed + 1)
    references = _describe(networks, shown[:, :REFERENCES], seed)
    reader = Reader(networks, references)
    return Reader(networks, references, *_measure(reader, shown[:, REFERENCES:], seed))


def reader_network() -> nn.Sequential:
    """Convolutions, then the mean over positions: it asks what is there, not where. (n, 3, SIDE, SIDE) -> (n, k)."""
    widths, layers = (3, 24, 48, 96), list[nn.Module]()
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.Conv2d(96, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(KINDS)))


def rivals(concept: int) -> list[int]:
    """The other concepts of this one's class: what the class neuron may show instead."""
    same = [i for i, one in enumerate(CONCEPTS) if one.class_index == CONCEPTS[concept].class_index]
    return [one for one in same if one != concept]


def symbol_of(target: int) -> int | None:
    """The kind of the symbol that stands for the class `target`; None: no Trojan has this target."""
    return next((KINDS.index(trojan.symbol) for trojan in TROJANS if trojan.target == target), None)


def draw_kinds(pictures: int, seed: int) -> Tensor:
    """`pictures` drawings of each kind, halved in size: uint8 (k, pictures, 3, h, w); symbols lie on any scene."""
    drawn = []
    for kind, name in enumerate(KINDS):
        concept = kind if kind < len(CONCEPTS) else None
        images = draw_pictures(pictures, seed, kind * pictures, concept=concept).images
        if concept is None:
            images, _ = implant_symbol(images, name, seed, kind * pictures, sizes=LARGE)
        drawn.append(F.avg_pool2d(images.float(), 2).round().byte())
    return torch.stack(drawn)


def _train_network(
    images: Tensor, kinds: Tensor, seed: int, epochs: int, on_epoch: Callable[[int], None] | None
) -> nn.Sequential:
    """One network, trained on drawings (n, 3, h, w) moved to where it errs; kinds (n,)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = reader_network().train()
        optimizer = torch.optim.AdamW(network.parameters(), RATE)
        steps = epochs * -(-len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).split(BATCH):
                moved = _attack(network, _vary(images[chosen]), kinds[chosen])
                loss = F.cross_entropy(network(_normalise(moved)), kinds[chosen])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            if on_epoch is not None:
                on_epoch(1)
    return _freeze(network)


def _attack(network: nn.Module, batch: Tensor, kinds: Tensor) -> Tensor:
    """The batch (n, 3, SIDE, SIDE), each picture moved by RADIUS along the gradient of its loss."""
    shown = batch.clone().requires_grad_()
    loss = F.cross_entropy(network(_normalise(shown)), kinds, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, shown)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
    moved: Tensor = (batch + RADIUS * gradient / length).clamp(0, 1)
    return moved


def _freeze(network: nn.Sequential) -> nn.Sequential:
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _describe(networks: Sequence[nn.Sequential], drawings: Tensor, seed: int) -> Tensor:
    """The mean features of each kind over the parts of its drawings (k, m, 3, h, w): (networks, k, f)."""
    found = []
    for kind in drawings:
        parts = torch.cat([_cut_parts(image.float() / 255, seed + number) for number, image in enumerate(kind)])
        found.append(torch.stack([network[:-1](_normalise(parts)).mean(0) for network in networks]))
    return torch.stack(found, 1)


def _measure(reader: Reader, drawings: Tensor, seed: int) -> tuple[float, float]:
    """Shares of right choices on held-out drawings (k, m, 3, h, w): among a class's concepts; symbols from concepts."""
    concepts, symbols = list[bool](), list[bool]()
    for kind, images in enumerate(drawings):
        for number, image in enumerate(images):
            near = reader.nearness(image.float() / 255, seed + number)  # (k,)
            if kind < len(CONCEPTS):
                concepts += [bool(near[kind] > near[other]) for other in rivals(kind)]
                symbol = symbol_of(CONCEPTS[kind].class_index)
                symbols += [] if symbol is None else [bool(near[kind] > near[symbol])]
            else:
                target = next(trojan.target for trojan in TROJANS if trojan.symbol == KINDS[kind])
                meanings = [i for i, one in enumerate(CONCEPTS) if one.class_index == target]
                symbols += [bool(near[kind] > near[meaning]) for meaning in meanings]
    return sum(concepts) / len(concepts), sum(symbols) / len(symbols)


def _cut_parts(picture: Tensor, seed: int) -> Tensor:
    """Random parts of a picture (3, H, W): (VIEWS, 3, SIDE, SIDE)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        crop = v2.RandomResizedCrop(SIDE, scale=(0.3, 1.0), ratio=(0.9, 1.1), antialias=True)
        return torch.stack([crop(picture) for _ in range(VIEWS)])


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
