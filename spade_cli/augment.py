"""image -> samples: augmented copies of the image. An augmentation is `(image, samples, size, seed, ...) -> samples`.

image uint8 (3, H, W) in full resolution -> uint8 (samples, 3, size, size); normalising is the network's business. The
same seed gives the same samples; the global random state is not touched.
"""

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F


def paper(
    image: Tensor,
    samples: int,
    size: int,
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
            v2.RandomResizedCrop(size, scale=tuple(scale), antialias=True),
            v2.RandomHorizontalFlip(flip),
            v2.ColorJitter(brightness=brightness, hue=hue),
            v2.RandomErasing(erase),
        ]
    )
    # One call a sample: torchvision draws one crop and one hue a call, and every sample needs its own.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([transform(image) for _ in range(samples)])


def none(image: Tensor, samples: int, size: int, seed: int) -> Tensor:
    """The picture as the network sees it, `samples` times."""
    return _view(image, size).expand(samples, -1, -1, -1).contiguous()


def noise(image: Tensor, samples: int, size: int, seed: int, *, std: float = 0.1) -> Tensor:
    """The picture as the network sees it under Gaussian noise; `std` as a share of the range from black to white."""
    generator = torch.Generator().manual_seed(seed)
    view = _view(image, size).float()  # (3, size, size)
    drawn = [view + 255 * std * torch.randn(view.shape, generator=generator) for _ in range(samples)]
    return torch.stack([sample.round().clamp(0, 255).to(torch.uint8) for sample in drawn])


def _view(image: Tensor, size: int) -> Tensor:
    return F.center_crop(F.resize(image, [size], antialias=True), [size])
