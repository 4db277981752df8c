"""Parts of real pictures that excite a channel most, to be shown beside what was drawn for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.images import augment
from spade_cli.images.find import find_images
from spade_cli.images.load import load_image
from spade_cli.inspection.reopen import OpenRun
from spade_cli.interpretation import Channel
from spade_cli.interpretation.channels import observe_layers
from spade_cli.models import Preprocessing
from spade_cli.report.channel_pages import Neuron

PATCHES = 4  # of each channel and network
SMALLEST = 1 / 4  # side of a patch, as a share of the picture's height: less is hard to recognise
POSITIONS = 3  # of the layer that a patch spans: what one of them sees reaches beyond its own place
BATCH = 16  # pictures in one pass of the network
SAMPLES = 64  # of the image, where no other pictures are given

Place = tuple[float, float, float] | None  # middle, down and across, as shares; side, as one of the height; None: all


def choose_views(run: OpenRun, images: str | None, out: str) -> tuple[Iterator[Tensor], int, str]:
    """What the network sees of pictures, each (1, 3, H, W) in [0, 1]; how many they are, and in words, which.

    images: a folder, a pattern or a list, as of `spade batch`, without what lies in `out`; None: samples of the run's
    image, as `augmentation=paper` draws them. Raises UserError where there are none, or one cannot be read.
    """
    own = run.classifier.preprocessing
    if images is not None:
        paths = list(find_images(images, out))
        return (own.view(load_image(path)) for path in paths), len(paths), f"{len(paths)} pictures of {images}"
    view = torch.from_numpy(np.array(run.view)).permute(2, 0, 1)  # uint8 (3, H, W)
    drawn = augment.paper(view, SAMPLES, own, run.summary.seed)
    return (sample[None].float() / 255 for sample in drawn), SAMPLES, f"{SAMPLES} samples of the image"


def add_patches(
    networks: Mapping[str, nn.Module],
    neurons: Sequence[Neuron],
    own: Preprocessing,
    views: Iterable[Tensor],
    on_picture: Callable[[int], object],
) -> None:
    """Put into every neuron, for each network, the patches that excite it most: the strongest first, one a picture.

    views: what the network sees of each picture, (1, 3, H, W) in [0, 1]; they are read once, BATCH at a time.
    on_picture: called with the number of pictures after each batch.
    """
    best: dict[tuple[str, int], list[tuple[float, Tensor]]] = {}
    for batch in _batches(views):
        for name, network in networks.items():
            for n, found in enumerate(_excite(network, neurons, own.normalise(batch.to(device_of(network))))):
                ranked = best.setdefault((name, n), [])
                ranked += [(value, cut_patch(batch[i], place)) for i, (value, place) in enumerate(found)]
                ranked.sort(key=lambda one: one[0], reverse=True)  # stable: of equals, the earlier picture
                del ranked[PATCHES:]
        on_picture(len(batch))
    for (name, n), ranked in best.items():
        neurons[n].patches[name] = [patch for _, patch in ranked]


def cut_patch(view: Tensor, place: Place) -> Tensor:
    """A square of the view (3, H, W) about a place, moved inside it."""
    if place is None:
        return view
    whole = view.shape[-2:]  # height, width
    side = min(max(1, round(place[2] * whole[0])), *whole)
    top, left = (
        min(max(round(middle * length - side / 2), 0), length - side)
        for middle, length in zip(place[:2], whole, strict=True)
    )
    return view[:, top : top + side, left : left + side]


@torch.no_grad()
def _excite(network: nn.Module, neurons: Sequence[Neuron], pictures: Tensor) -> list[list[tuple[float, Place]]]:
    """How much each picture (N, 3, H, W), normalised, excites each neuron at most, and where."""
    modules, found = dict(network.named_modules()), []
    with observe_layers(network, [one.layer for one in neurons]) as observe:
        outputs = observe(pictures)
        for one in neurons:
            channel = Channel(one.layer, one.channel)
            values = channel.read(outputs[one.layer], modules.get(one.layer), pictures.shape[-2:])
            values = values.reshape(len(pictures), *(values.shape[1:] if len(values) == len(pictures) else (-1,)))
            found.append([find_place(each) for each in values.float().cpu()])
    return found


def find_place(values: Tensor) -> tuple[float, Place]:
    """The largest value of a channel in one picture, and its place: (H, W), or tokens (T,) or a value () without."""
    value, index = values.flatten().max(0)
    if values.dim() != 2:
        return float(value), None
    height, width = values.shape
    row, column = divmod(int(index), width)
    side = min(1.0, max(SMALLEST, POSITIONS / height))
    return float(value), ((row + 0.5) / height, (column + 0.5) / width, side)


def _batches(views: Iterable[Tensor]) -> Iterator[Tensor]:
    """Views (1, 3, H, W) as batches (up to BATCH, 3, H, W)."""
    waiting: list[Tensor] = []
    for view in views:
        waiting.append(view)
        if len(waiting) == BATCH:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)
