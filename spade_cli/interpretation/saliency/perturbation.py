"""Saliency by covering parts of the image: occlusion, and LIME on quickshift segments."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from captum import attr
from skimage.segmentation import quickshift
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import Explanation, at_least_one, captum_on, explained, prepared
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.networks.borrow import seed_generators

# quickshift, kernel and regression as in the lime package's lime_image (Ribeiro et al. 2016), which SPADE's paper used
QUICKSHIFT = {"ratio": 0.2, "kernel_size": 4, "max_dist": 200}
WINDOW = 15  # pixels, of occlusion
KERNEL_WIDTH = 0.25  # of the cosine distance to the uncovered image
RIDGE = 1.0  # penalty of the weighted linear model


def occlusion(
    network: Explainable, image: Tensor, target: int, *, window: int = WINDOW, stride: int = 8, batch_size: int = 16
) -> Explanation:
    """Drop in the output when a square is set to zero, the mean colour (Zeiler and Fergus 2014, section 4.2).

    window, stride: pixels; where squares overlap a pixel gets the mean of their drops. batch_size: squares at a time.
    Errors: UserError where the square is larger than the image or the stride larger than the square.
    """
    height, width = image.shape[-2:]
    if not (1 <= stride <= window <= min(height, width)):
        raise UserError(
            f"occlusion with window {window} and stride {stride} asked for on {height} x {width} pixels; "
            "take 1 <= stride <= window <= the image's shorter side"
        )
    at_least_one("occlusion", batch_size=batch_size)
    image = prepared(network, image, target)
    with captum_on(network.model), torch.no_grad():
        drop = attr.Occlusion(network.model).attribute(
            image,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=0,
            target=target,
            perturbations_per_eval=batch_size,
        )  # (1, 3, H, W)
    return explained("occlusion", drop)


def check_window(methods: Mapping[str, Callable[..., object]], size: int) -> None:
    """UserError where the square of `occlusion`, a partial with its settings, is larger than pictures of `size`."""
    settings = getattr(methods.get("occlusion"), "keywords", {})
    window = settings.get("window", WINDOW)
    if "occlusion" in methods and window > size:
        raise UserError(
            f"interpreter.occlusion.window={window} is larger than the picture, {size} x {size} pixels; give at most "
            f"{size}, such as {max(1, size // 8)}, and interpreter.occlusion.stride no larger"
        )


def lime(
    network: Explainable, image: Tensor, target: int, *, samples: int = 1000, batch_size: int = 16, seed: int = 0
) -> Explanation:
    """Positive weights of a linear model of which segments are visible (Ribeiro et al. 2016, algorithm 1).

    Segments are quickshift's. A covered segment is zero in the network's normalised space, the mean colour: the
    baseline of every other method here. What is modelled is the network's output, as everywhere here, not its softmax.
    A negative weight counts as zero. samples: coverings tried, each segment visible with probability 1/2.
    """
    if samples < 2:
        raise UserError(f"lime.samples={samples} asked for; a linear model needs 2 or more")
    at_least_one("lime", batch_size=batch_size)
    image = prepared(network, image, target)
    segments = segmented(image[0], seed).to(image.device)  # (H, W)
    count = int(segments.max()) + 1
    with captum_on(network.model), seed_generators(seed, image.device), torch.no_grad():
        weights = attr.LimeBase(
            network.model,
            interpretable_model=RidgeModel(),
            similarity_func=_similarity,
            perturb_func=_coverings,
            perturb_interpretable_space=True,
            from_interp_rep_transform=_cover,
            to_interp_rep_transform=None,
        ).attribute(
            image,
            target=target,
            n_samples=samples,
            perturbations_per_eval=batch_size,
            segments=segments,
            segment_count=count,
        )  # (1, segments)
    visible = weights.flatten().clamp(min=0)[segments.cpu()]  # (H, W)
    return explained("lime", visible[None, None])


def segmented(image: Tensor, seed: int) -> Tensor:
    """Quickshift segments (H, W), int64 from 0, of a normalised image (3, H, W).

    Quickshift wants colours in [0, 1]. Stretching the normalised image from its minimum to its maximum gives such
    colours without asking every caller for mean and standard deviation; its edges are the image's own.
    """
    colours = image.detach().cpu().float().permute(1, 2, 0).numpy().astype(np.float64)  # (H, W, 3)
    spread = colours.max() - colours.min()
    colours = (colours - colours.min()) / (spread if spread > 0 else 1.0)
    return torch.from_numpy(quickshift(colours, rng=seed, **QUICKSHIFT)).long()


def _coverings(image: Tensor, **settings: Any) -> Iterator[Tensor]:
    """Which segments are visible (1, segments): all of them first, then each with probability 1/2."""
    count = settings["segment_count"]
    yield torch.ones(1, count)
    while True:
        yield torch.bernoulli(torch.full((1, count), 0.5))  # drawn on the CPU: the same on every device


def _cover(visible: Tensor, image: Tensor, **settings: Any) -> Tensor:
    """The image with the segments that are not visible set to zero (1, 3, H, W)."""
    return image * visible[0].to(image)[settings["segments"]]


def _similarity(image: Tensor, covered: Tensor, visible: Tensor, **settings: Any) -> Tensor:
    """exp(-distance^2 / width^2)^(1/2), with the cosine distance between `visible` and all ones."""
    cosine = (visible.sum() / (visible.norm() * visible.numel() ** 0.5)).nan_to_num(0)
    return torch.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2).sqrt()


class RidgeModel:
    """Weighted ridge regression with an unpenalised intercept, in closed form; captum's own needs scikit-learn."""

    def fit(self, train_data: Any, **settings: Any) -> dict[str, float]:
        """Solve for the weights from batches of (visible (n, segments), output (n,), similarity (n,))."""
        # to the CPU first: MPS has no float64
        parts = [[part.cpu().double() for part in batch] for batch in train_data]
        visible, output, similarity = (torch.cat(column) for column in zip(*parts, strict=True))
        share = (similarity / similarity.sum()).reshape(-1, 1)  # (n, 1)
        output = output.reshape(-1, 1)
        centred = visible - (share * visible).sum(0)  # (n, segments)
        root = similarity.reshape(-1, 1).sqrt()
        matrix = (root * centred).T @ (root * centred) + RIDGE * torch.eye(visible.shape[1], dtype=torch.float64)
        self.weights = torch.linalg.solve(matrix, (root * centred).T @ (root * (output - (share * output).sum())))
        return {}

    def representation(self) -> Tensor:
        """The weights (1, segments)."""
        return self.weights.T.float()
