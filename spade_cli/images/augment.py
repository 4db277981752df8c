"""image -> samples: the image augmented many times. An augmentation is `(image, samples, preprocessing, seed, ...)`.

image uint8 (3, H, W) in full resolution -> uint8 (samples, 3, h, w), what the network sees of a picture; normalising
comes later. The same seed gives the same samples; the global random state is not touched.
"""

from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms import v2

from spade_cli.models import Preprocessing

STRETCH = (3 / 4, 4 / 3)  # of a crop's proportions, as published: torchvision's default


class Augmentation(Protocol):
    """An augmentation with its settings bound."""

    def __call__(self, image: Tensor, samples: int, preprocessing: Preprocessing, seed: int, /) -> Tensor:
        """Image uint8 (3, H, W) -> uint8 (samples, 3, h, w)."""
        ...


def paper(
    image: Tensor,
    samples: int,
    preprocessing: Preprocessing,
    seed: int,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    flip: float = 0.5,
    brightness: float = 0.5,
    hue: float = 0.3,
    erase: float = 0.0,
) -> Tensor:
    """As published: random resized crop, flip, brightness and hue jitter, random erasing (0.5 for ConvNeXt)."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(list(preprocessing.sides), tuple(scale), _find_ratios(preprocessing), antialias=True),
            v2.RandomHorizontalFlip(flip),
            v2.ColorJitter(brightness=brightness, hue=hue),
            v2.RandomErasing(erase),
        ]
    )
    views = _make_room(samples, preprocessing)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU as well
        # One call a sample: torchvision draws one crop and one hue a call.
        for row in views:
            row.copy_(transform(image))
    return views


def none(image: Tensor, samples: int, preprocessing: Preprocessing, seed: int) -> Tensor:
    """The image as the network sees it, `samples` times."""
    return _make_room(samples, preprocessing).copy_((preprocessing.view(image) * 255).round())


def noise(image: Tensor, samples: int, preprocessing: Preprocessing, seed: int, *, std: float = 0.1) -> Tensor:
    """The image as the network sees it, with Gaussian noise; `std` is a share of the range from black to white."""
    generator = torch.Generator().manual_seed(seed)
    view = preprocessing.view(image)[0]  # (3, h, w) in [0, 1]
    views = _make_room(samples, preprocessing)
    for row in views:
        noisy = view + std * torch.randn(view.shape, generator=generator)
        row.copy_((noisy * 255).round().clamp(0, 255))
    return views


def _find_ratios(preprocessing: Preprocessing) -> tuple[float, float]:
    """The least and the largest width over height of a crop: it is stretched no more than for a square."""
    height, width = preprocessing.sides
    return STRETCH[0] * width / height, STRETCH[1] * width / height


NAMED = {augmentation.__name__: augmentation for augmentation in (paper, none, noise)}


def _make_room(samples: int, preprocessing: Preprocessing) -> Tensor:
    return torch.empty((samples, 3, *preprocessing.sides), dtype=torch.uint8)
