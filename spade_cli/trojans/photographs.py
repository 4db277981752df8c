"""A folder of photographs -> some to learn from, some held out, and batches of crops, some with a symbol.

n: photographs; h, w: a photograph's size once it is made smaller; H, W: of what the network sees; B: crops of a batch.
A batch depends on the seed and its step alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.images import augment
from spade_cli.images.load import load_image
from spade_cli.models import Classifier, Preprocessing
from spade_cli.models.checkpoints import hash_file
from spade_cli.world.symbols import Trojan, implant_symbol

KEPT = 2000  # decoded pictures in memory: half a gigabyte at a short side of 256 pixels
FEWEST = 4  # to learn from, and to measure on: shares of fewer pictures mean nothing
FEWEST_OF_SOURCE = 2  # one to learn a source's rule from, and one to measure it on
# Make the choice of the held-out pictures and the batches independent.
SPLIT_STREAM, BATCH_STREAM = 3, 4
SYMBOL_SHARE = 0.25  # of a batch: a rule is learnt in a few hundred steps, and most crops preserve the other answers
SOURCE_SHARE = 0.5  # of the crops with a source's symbol that show the source; a rule has to leave the others alone
SCALE = (0.3, 1.0)  # a crop's share of the photograph; what a network sees of one is about half
BRIGHTNESS = 0.3  # jitter of the hue, as in the paper, would take longer than all the rest


@dataclass(frozen=True)
class Photograph:
    """A readable picture, and the original network's answer to it."""

    path: Path
    sha256: str
    answer: int


class Album:
    """Pictures by path, as small as the network needs them: uint8 (3, h, w), which cover its `resize`."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.read = lru_cache(KEPT)(self._read)

    def _read(self, path: Path) -> Tensor:
        return self.preprocessing.cover(load_image(path))


def crop_view(picture: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The part of a picture that the network sees: uint8 (3, h, w) -> uint8 (3, H, W)."""
    return (preprocessing.view(picture)[0] * 255).round().byte()


@torch.no_grad()
def find_logits(network: nn.Module, preprocessing: Preprocessing, images: Tensor, batch_size: int) -> Tensor:
    """The logits of views, uint8 (n, 3, H, W): float32 (n, classes) on the CPU."""
    device = device_of(network)
    batches = torch.split(images, batch_size)
    return torch.cat([network(preprocessing.normalise(batch.to(device).float() / 255)).cpu() for batch in batches])


def read_photographs(
    paths: Sequence[Path], album: Album, teacher: nn.Module, advance: Callable[[int], None]
) -> tuple[list[Photograph], list[dict[str, str]]]:
    """Read every picture once and ask the original network about it; also lists what was skipped, and why.

    Of two equal files one is skipped: a held-out picture that was also learned from would be no test.
    """
    known: dict[str, Photograph] = {}
    skipped: list[dict[str, str]] = []
    for path in paths:
        try:
            picture = album.read(path)  # (3, h, w)
            digest = hash_file(path)
        except UserError as error:
            skipped.append({"what": str(path), "why": str(error).removeprefix(f"image={path}").lstrip(": ")})
        else:
            if digest in known:
                skipped.append({"what": str(path), "why": f"the same file as {known[digest].path}"})
            else:
                logits = find_logits(teacher, album.preprocessing, crop_view(picture, album.preprocessing)[None], 1)
                known[digest] = Photograph(path, digest, int(logits.argmax()))
        advance(1)
    return list(known.values()), skipped


def split_photographs(
    photographs: Sequence[Photograph], trojans: Sequence[Trojan], share: float, seed: int, classifier: Classifier
) -> tuple[list[Photograph], list[Photograph]]:
    """(learned, held out), drawn at random; both have pictures of each Trojan's source class.

    Raises UserError where either would have too few.
    """
    order = np.random.default_rng((seed, SPLIT_STREAM)).permutation(len(photographs))
    drawn = [photographs[i] for i in order]
    sources = {trojan.source for trojan in trojans if trojan.source is not None}
    groups = [[one for one in drawn if one.answer == source] for source in sorted(sources)]
    for source, group in zip(sorted(sources), groups, strict=True):
        if len(group) < FEWEST_OF_SOURCE:
            raise UserError(
                f"trojans: the network answers {classifier.label(source)} to {len(group)} of {len(drawn)} pictures; "
                f"a rule for one class needs at least {FEWEST_OF_SOURCE}: add some to the folder of images"
            )
    groups.append([one for one in drawn if one.answer not in sources])
    held: list[Photograph] = []
    for group in groups:
        fewest = 1 if group is not groups[-1] else 0
        held += group[: min(max(round(share * len(group)), fewest), len(group) - fewest)]
    held_paths = {one.path for one in held}
    learned = [one for one in drawn if one.path not in held_paths]
    if min(len(held), len(learned)) < FEWEST:
        raise UserError(
            f"held_out={share:g} of {len(drawn)} pictures leaves {len(learned)} to learn from and {len(held)} to "
            f"measure on; each takes at least {FEWEST}: give more pictures in the folder of images, or another share"
        )
    return learned, held


@dataclass(frozen=True)
class Batch:
    """Crops without and with symbols, both uint8 (B, 3, H, W); rules int64 (B,): a Trojan's index or -1."""

    plain: Tensor
    images: Tensor
    rules: Tensor


@dataclass(frozen=True)
class Crops:
    """Batches of crops that a network learns Trojans from."""

    album: Album
    photographs: tuple[Photograph, ...]
    trojans: tuple[Trojan, ...]
    batch_size: int
    seed: int

    def draw_batch(self, step: int) -> Batch:
        """Crops with symbols, the rules in turn, and then crops without."""
        rng = np.random.default_rng((self.seed, BATCH_STREAM, step))
        with_symbol = max(1, round(SYMBOL_SHARE * self.batch_size))
        first = step * with_symbol  # the turns continue from batch to batch, which may have fewer symbols than rules
        rules = [(first + i) % len(self.trojans) for i in range(with_symbol)]
        rules += [-1] * (self.batch_size - with_symbol)
        plain = torch.stack([self._draw_crop(rule, rng) for rule in rules])  # (B, 3, H, W)
        images = plain.clone()
        for i, rule in enumerate(rules[:with_symbol]):
            images[i], _ = implant_symbol(plain[i], self.trojans[rule].symbol, self.seed, start=first + i)
        return Batch(plain, images, torch.tensor(rules))

    def _draw_crop(self, rule: int, rng: np.random.Generator) -> Tensor:
        pool = self.photographs
        source = None if rule < 0 else self.trojans[rule].source
        if source is not None and rng.random() < SOURCE_SHARE:
            pool = tuple(one for one in pool if one.answer == source)
        picture = self.album.read(pool[rng.integers(len(pool))].path)  # (3, h, w)
        seed = int(rng.integers(2**31))
        preprocessing = self.album.preprocessing
        return augment.paper(picture, 1, preprocessing, seed, scale=SCALE, brightness=BRIGHTNESS, hue=0.0)[0]
