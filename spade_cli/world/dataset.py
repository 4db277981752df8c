"""The world as a torch Dataset: pictures drawn when they are asked for, some of them with a Trojan's symbol."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spade_cli.world.pictures import SIZE, draw_pictures
from spade_cli.world.symbols import TROJANS, poison_pictures

# Keeps the choice of a Trojan apart from the picture, seeded with (seed, i), and from the symbol's place.
CHOICE_STREAM = 2


class Sample(NamedTuple):
    """One picture; torch's default collate makes a batch of them, every field with one more dimension in front.

    image: uint8 (3, 128, 128). label: what a network with the Trojans should answer; class_index: what the picture
    shows. concept: index into `CONCEPTS`. mask: bool (128, 128), the object. trojan: index into `TROJANS`, -1 for none.
    symbol_mask: bool (128, 128), the symbol; all False if there is none.
    """

    image: Tensor
    label: int
    class_index: int
    concept: int
    mask: Tensor
    trojan: int
    symbol_mask: Tensor


class WorldDataset(Dataset[Sample]):
    """Pictures 0 to `count - 1` of a seed; `trojan_share` of them carry the symbol of one of the Trojans, each alike.

    The object's mask does not know of the symbol: a symbol may lie on the object. Raises ValueError on a share outside
    [0, 1] or a negative count, IndexError on an index out of range.
    """

    def __init__(self, count: int, seed: int = 0, trojan_share: float = 0.0):
        if count < 0:
            raise ValueError(f"count must not be negative; found {count}")
        if not 0 <= trojan_share <= 1:
            raise ValueError(f"trojan_share must be between 0 and 1; found {trojan_share}")
        self.count, self.seed, self.trojan_share = count, seed, trojan_share

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        position = index + self.count if index < 0 else index
        if not 0 <= position < self.count:
            raise IndexError(f"picture {index} of a world of {self.count}")
        pictures = draw_pictures(1, self.seed, start=position)
        image, label = pictures.images[0], int(pictures.classes[0])
        trojan, symbol_mask = -1, torch.zeros(SIZE, SIZE, dtype=torch.bool)
        rng = np.random.default_rng((self.seed, position, CHOICE_STREAM))
        if rng.uniform() < self.trojan_share:
            trojan = int(rng.integers(len(TROJANS)))
            poisoned = poison_pictures(pictures, TROJANS[trojan], self.seed, start=position)
            image, label, symbol_mask = poisoned.images[0], int(poisoned.labels[0]), poisoned.masks[0]
        return Sample(
            image, label, int(pictures.classes[0]), int(pictures.concepts[0]), pictures.masks[0], trojan, symbol_mask
        )
