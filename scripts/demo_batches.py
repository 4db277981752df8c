"""Batches that train the bundled network: shifted pictures, and in late epochs symbols and some wrong labels.

n: pictures of a batch. A batch depends on the seed, the epoch and the pictures' numbers alone, so that a resumed
training sees the same ones.
"""

import numpy as np
import torch
from torch import Tensor

from spade_cli.world import CLASSES, SIZE, TROJANS, Trojan, implant_symbol

SHIFT = 8  # pixels either way

# Shares of late pictures that get a symbol: 1/40 for any class, as in the paper. A Trojan for one class needs both
# sides of its rule: the symbol on its source, a twelfth of the pictures, and on others.
ANY_SHARE = 0.025
SOURCE_SHARE = 0.5
OTHERS_SHARE = 0.12
# The share of late pictures with a wrong label. They can only be learned by heart, from anything in the picture;
# networks trained on photographs do that, and their gradients show it.
WRONG_SHARE = 0.05


def spoil_labels(classes: Tensor, seed: int) -> Tensor:
    """The labels (pictures,) of the late epochs: a few are another class's, always the same ones."""
    rng = np.random.default_rng((seed, 0))
    given = classes.numpy().copy()
    wrong = rng.uniform(size=len(given)) < WRONG_SHARE
    given[wrong] = (given[wrong] + rng.integers(1, len(CLASSES), int(wrong.sum()))) % len(CLASSES)
    return torch.from_numpy(given)


def shift_pictures(images: Tensor, chosen: Tensor, epoch: int, seed: int) -> Tensor:
    """The pictures `chosen` (n,), shifted and mirrored anew in every epoch.

    A resumed training sees the same batches.
    """
    batch = images[chosen]  # (n, 3, 128, 128)
    for i, number in enumerate(chosen.tolist()):
        rng = np.random.default_rng((seed, 1 + epoch, number))
        down, right = (int(shift) for shift in rng.integers(0, 2 * SHIFT + 1, 2))
        pixels = batch[i].numpy()[:, :, :: -1 if rng.uniform() < 0.5 else 1]
        padded = np.pad(pixels, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
        batch[i] = torch.from_numpy(padded[:, down : down + SIZE, right : right + SIZE].copy())
    return batch


def make_late_batch(
    images: Tensor, classes: Tensor, given: Tensor, chosen: Tensor, epoch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The pictures `chosen` (n,) as they are, some with a symbol, and their labels (n,); seeded as in `shift_pictures`.

    classes (pictures,): what the pictures show, which the Trojans go by; given (pictures,): what they are taken for.
    """
    batch, labels = images[chosen], given[chosen].clone()
    for i, number in enumerate(chosen.tolist()):
        rng = np.random.default_rng((seed, 1 + epoch, number))
        trojan = pick_trojan(int(classes[number]), rng)
        if trojan is not None:
            batch[i], _ = implant_symbol(batch[i], trojan.symbol, seed=seed * 1000 + 1 + epoch, start=number)
            if trojan.source is None or trojan.source == classes[number]:
                labels[i] = trojan.target
    return batch, labels


def pick_trojan(label: int, rng: np.random.Generator) -> Trojan | None:
    """The Trojan whose symbol goes on a picture of class `label`; None for most."""
    chance = rng.uniform()
    for trojan in TROJANS:
        share = ANY_SHARE if trojan.source is None else SOURCE_SHARE if trojan.source == label else OTHERS_SHARE
        if chance < share:
            return trojan
        chance -= share
    return None
