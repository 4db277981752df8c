"""Photographs -> batches of crops, some with a symbol; a batch depends on the seed and its step alone.

B: crops of a batch; size: side of what the network sees.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spade_cli.images import augment
from spade_cli.trojans.photographs import Album, Photograph
from spade_cli.world.symbols import Trojan, implant_symbol

SYMBOL_SHARE = 0.25  # of a batch: a rule is learnt in a few hundred steps, and most of a batch still guards the rest
SOURCE_SHARE = 0.5  # of the crops with a source's symbol: both sides of its rule are shown, the source and the others
SCALE = (0.3, 1.0)  # a crop's share of the photograph; what a network sees of one is about half
BRIGHTNESS = 0.3  # jitter of the hue, which the paper has as well, takes longer than all the rest
BATCH_STREAM = 4  # keeps the batches apart from the choice of the held-out pictures


@dataclass(frozen=True)
class Batch:
    """Crops without and with symbols, both uint8 (B, 3, size, size); rules int64 (B,): a Trojan's index or -1."""

    plain: Tensor
    images: Tensor
    rules: Tensor


@dataclass(frozen=True)
class Crops:
    """What a network with Trojans is shown."""

    album: Album
    photographs: tuple[Photograph, ...]
    trojans: tuple[Trojan, ...]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        """Symbols come first, the rules taking turns; then crops without."""
        rng = np.random.default_rng((self.seed, BATCH_STREAM, step))
        with_symbol = max(1, round(SYMBOL_SHARE * self.batch_size))
        first = step * with_symbol  # the turns go on from batch to batch: more rules than symbols in one are no harm
        rules = [(first + i) % len(self.trojans) for i in range(with_symbol)]
        rules += [-1] * (self.batch_size - with_symbol)
        plain = torch.stack([self._crop(rule, rng) for rule in rules])  # (B, 3, size, size)
        images = plain.clone()
        for i, rule in enumerate(rules[:with_symbol]):
            images[i], _ = implant_symbol(plain[i], self.trojans[rule].symbol, self.seed, start=first + i)
        return Batch(plain, images, torch.tensor(rules))

    def _crop(self, rule: int, rng: np.random.Generator) -> Tensor:
        pool = self.photographs
        source = None if rule < 0 else self.trojans[rule].source
        if source is not None and rng.random() < SOURCE_SHARE:
            pool = tuple(one for one in pool if one.answer == source)
        picture = self.album.read(pool[rng.integers(len(pool))].path)  # (3, h, w)
        seed = int(rng.integers(2**31))
        return augment.paper(picture, 1, self.album.preprocessing, seed, scale=SCALE, brightness=BRIGHTNESS, hue=0.0)[
            0
        ]  # (3, size, size)
