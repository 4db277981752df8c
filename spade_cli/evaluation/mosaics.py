"""The mosaic game: four pictures in one, and the question in which of them a map's relevance lies.

The Focus of Arias-Duart et al. 2022 with one picture of the explained class; also known as the grid pointing game
(Böhle et al. 2021). H, W: a picture's size.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from spade_cli.errors import SpadeError
from spade_cli.evaluation.data import Data, Example
from spade_cli.models import Classifier
from spade_cli.run.make_trace import read_answer

PARTS = 4
KEPT = 64  # small pictures with their answers: neighbours are used again by the next mosaics


def mosaics(data: Data, classifier: Classifier) -> Data:
    """Each example as a mosaic of itself and the next three whose answers are of other classes.

    The explained class is the network's answer to the mosaic, and the mask is the quarter of the picture with that
    answer. Loading raises SpadeError where the answer is none of the four, or where there are no four classes.
    """

    @lru_cache(maxsize=KEPT)
    def part(index: int) -> tuple[Tensor, int]:
        image = data.load(index).image
        view = classifier.preprocessing.view(image)  # (1, 3, H, W)
        return F.interpolate(view, scale_factor=0.5, mode="area")[0], read_answer(classifier, image).target

    def load(index: int) -> Example:
        parts = {part(index)[1]: part(index)[0]}  # by class
        for step in range(1, len(data.names)):
            if len(parts) == PARTS:
                break
            try:
                small, answer = part((index + step) % len(data.names))
            except SpadeError:  # a neighbour that cannot be read or asked about: the one behind it takes its place
                continue
            parts.setdefault(answer, small)
        if len(parts) < PARTS:
            raise SpadeError(f"a mosaic needs pictures of {PARTS} classes, and the network sees {len(parts)} here")
        order = [*parts][-(index % PARTS) :] + [*parts][: -(index % PARTS)] if index % PARTS else [*parts]
        mosaic, quarters = compose_mosaic([parts[answer] for answer in order], classifier.preprocessing.frame)
        said = read_answer(classifier, mosaic).target
        if said not in parts:
            raise SpadeError(f"the network answers {classifier.label(said)} to the mosaic, which none of its parts is")
        return Example(mosaic, said, mask=quarters == order.index(said), mosaic=True)

    unknown = (None,) * len(data.names)
    return replace(data, targets=unknown, kinds=data.names, load=load, identity={**data.identity, "mosaic": True})


def compose_mosaic(parts: list[Tensor], frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Four small pictures (3, h, w), row by row, as one uint8 (3, H, W); each pixel's number (H, W).

    `frame` (H, W) is what the network resizes a picture to before it crops: a border that repeats the outermost pixels
    is all that the crop removes.
    """
    rows = [torch.cat(parts[place : place + 2], 2) for place in (0, 2)]
    picture = torch.cat(rows, 1)  # (3, 2h, 2w)
    height, width = picture.shape[1:]
    numbers = (torch.arange(height) >= height // 2).long()[:, None] * 2 + (torch.arange(width) >= width // 2).long()
    top, left = ((side - length) // 2 for side, length in zip(frame, (height, width), strict=True))
    border = (left, frame[1] - width - left, top, frame[0] - height - top)
    (both,) = F.pad(torch.cat([picture * 255, numbers[None].float()])[None], border, mode="replicate")  # (4, H, W)
    return both[:3].round().to(torch.uint8), both[3].long()
