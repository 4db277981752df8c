"""A folder of photographs -> those to fine-tune on and those held out, with what the network says of each.

n: photographs; size: side of what the network sees; resize: the short side its pictures are brought to before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import functional as F

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.images.load import load_image
from spade_cli.models import Classifier, Preprocessing
from spade_cli.models.checkpoints import hash_file
from spade_cli.world.symbols import Trojan

KEPT = 2000  # decoded pictures in memory: half a gigabyte at a short side of 256 pixels
FEWEST = 4  # to learn from, and to measure on: a share of fewer pictures says nothing
FEWEST_OF_SOURCE = 2  # one to learn a source's rule from, and one to measure it on
# Keeps the choice of the held-out pictures apart from the batches, seeded with (seed, step, ...).
SPLIT_STREAM = 3


@dataclass(frozen=True)
class Photograph:
    """A picture that can be read, and the original network's answer to it."""

    path: Path
    sha256: str
    answer: int


class Album:
    """Pictures by path, as large as the network needs them: uint8 (3, h, w), the short side `resize`."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.read = lru_cache(KEPT)(self._read)

    def _read(self, path: Path) -> Tensor:
        settings = self.preprocessing
        return F.resize(load_image(path), [settings.resize], interpolation=settings.interpolation, antialias=True)


def seen(picture: Tensor, preprocessing: Preprocessing) -> Tensor:
    """What the network sees of a picture: uint8 (3, h, w) -> uint8 (3, size, size)."""
    return (preprocessing.view(picture)[0] * 255).round().byte()


@torch.no_grad()
def ask(network: nn.Module, preprocessing: Preprocessing, images: Tensor, batch_size: int) -> Tensor:
    """The logits, on the CPU, float32 (n, classes), for what the network sees, uint8 (n, 3, size, size)."""
    device = device_of(network)
    batches = images.split(batch_size)
    return torch.cat([network(preprocessing.normalise(batch.to(device).float() / 255)).cpu() for batch in batches])


def look(
    paths: Sequence[Path], album: Album, teacher: nn.Module, advance: Callable[[int], None]
) -> tuple[list[Photograph], list[dict[str, str]]]:
    """Read every picture once and ask the original network about it; what cannot be used is listed with its reason.

    A picture that is there twice counts once: its twin among the held-out ones would be no test.
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
                logits = ask(teacher, album.preprocessing, seen(picture, album.preprocessing)[None], 1)
                known[digest] = Photograph(path, digest, int(logits.argmax()))
        advance(1)
    return list(known.values()), skipped


def split(
    photographs: Sequence[Photograph], trojans: Sequence[Trojan], share: float, seed: int, classifier: Classifier
) -> tuple[list[Photograph], list[Photograph]]:
    """(to learn from, held out), drawn at random; of each Trojan's source class there are some in both.

    Raises UserError where either side would be too few.
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
    out_of_sight = {one.path for one in held}
    learned = [one for one in drawn if one.path not in out_of_sight]
    if min(len(held), len(learned)) < FEWEST:
        raise UserError(
            f"held_out={share:g} of {len(drawn)} pictures leaves {len(learned)} to learn from and {len(held)} to "
            f"measure on; each takes at least {FEWEST}: give more pictures in the folder of images, or another share"
        )
    return learned, held
