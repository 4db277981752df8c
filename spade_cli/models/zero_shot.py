"""Prompts -> a classifier of images: what model=clip and model=openclip share. The text side is evaluated once.

N: images; D: numbers in an embedding; P: prompts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.models.classifier import AUTO
from spade_cli.networks.scores import Output

EXAMPLE = "'model.prompts=[a photo of a cat,a photo of a dog]'"


class ZeroShot(nn.Module):
    """Images (N, 3, H, W) -> how well each prompt fits, (N, P): scale times cosine similarity, plus a bias.

    vision: the image encoder, (N, 3, H, W) -> (N, F). projection: (N, F) -> (N, D). `prompts` is the head, a
    linear layer with a row for each prompt: its embedding of length 1, times the scale.
    """

    def __init__(self, vision: nn.Module, projection: nn.Module, prompts: nn.Linear) -> None:
        super().__init__()
        self.vision, self.projection, self.prompts = vision, projection, prompts

    def encode(self, image: Tensor) -> Tensor:
        """What the image encoder makes of images, (N, F)."""
        features: Tensor = self.vision(image)
        return features

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102
        embedded = self.projection(self.encode(image))  # (N, D)
        scores: Tensor = self.prompts(embedded / torch.linalg.vector_norm(embedded, dim=-1, keepdim=True))
        return scores  # (N, P)


def make_head(texts: Tensor, scale: Tensor, bias: Tensor | None) -> nn.Linear:
    """The layer that compares an image's embedding, of length 1, with the prompts'.

    texts: (P, D), of any length. scale, bias: as trained, the scale as a logarithm; no bias for CLIP.
    """
    texts = texts.detach().float()
    rows = scale.detach().float().exp() * texts / torch.linalg.vector_norm(texts, dim=-1, keepdim=True)
    head = nn.Linear(rows.shape[1], rows.shape[0], bias=bias is not None)
    head.weight = nn.Parameter(rows)
    if bias is not None:
        head.bias = nn.Parameter(bias.detach().float().expand(rows.shape[0]).clone())
    return head


def check_prompts(prompts: Sequence[str] | None, asked: str) -> tuple[str, ...]:
    """The prompts, without spaces around them. Raises UserError where there are none, and for empty or equal ones."""
    if not prompts:
        raise UserError(f"{asked} needs texts to choose from: add {EXAMPLE}")
    stripped = tuple(prompt.strip() for prompt in prompts)
    if not all(stripped):
        raise UserError(f"model.prompts: number {stripped.index('') + 1} is empty; give texts such as {EXAMPLE}")
    twice = [prompt for place, prompt in enumerate(stripped) if prompt in stripped[:place]]
    if twice:
        raise UserError(f"model.prompts: {twice[0]!r} is there twice; give each text once")
    return stripped


def settle_scores(prompts: Sequence[str], bias: Tensor | None, wanted: str, asked: str) -> Output:
    """What the scores mean: SigLIP, which has a bias, judges each prompt alone; CLIP only compares prompts.

    Raises UserError for one prompt that there is nothing to compare with, and where CLIP's scores shall stand alone.
    """
    if bias is not None:
        return Output(Output.SIGMOID if wanted == AUTO else wanted)
    if wanted == Output.SIGMOID:
        raise UserError(
            f"model.output=sigmoid: {asked} only says which prompt fits better than the others; leave it out, or take "
            "a SigLIP network, which judges each prompt alone"
        )
    if len(prompts) == 1:
        raise UserError(
            f"model.prompts={prompts[0]!r} alone: {asked} only says which prompt fits better than the others, and the "
            "softmax of one is always 1; give another one to compare with, such as 'a photo'"
        )
    return Output.SOFTMAX


def refuse_long_prompt(prompt: str, most: int) -> None:
    """Raise the UserError about a prompt that the text encoder would cut off."""
    raise UserError(f"model.prompts: {prompt!r} is longer than the {most} tokens that the network reads; shorten it")
