"""Several networks that are asked in turn: methods that cover parts of the image share their coverings among them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.networks.modes_and_seeds import ask_network


def take_turns(networks: Sequence[Explainable], image: Tensor) -> Explainable:
    """Several networks as one that asks each in turn; a single network as it is."""
    if len(networks) == 1:
        return networks[0]
    return replace(networks[0], model=Turns([network.model for network in networks], image))


def split_turns(network: Explainable) -> list[Explainable]:
    """The networks of `take_turns`; of any other network itself."""
    if not isinstance(network.model, Turns):
        return [network]
    return [replace(network, model=model) for model in network.model.models]


class Turns(nn.Module):
    """Picture i of all that are asked about goes to network i modulo their number.

    The answer is by how much the network's output differs from its own output for the whole image (1, 3, H, W), since
    the outputs of two networks have no common level.
    """

    def __init__(self, models: Sequence[nn.Module], image: Tensor) -> None:
        super().__init__()
        self.models, self.asked = nn.ModuleList(models), 0
        device = next(self.models.parameters()).device
        with torch.no_grad():
            self.whole: list[Tensor] = [ask_network(model, image.to(device)) for model in models]  # (1, classes) each

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        turn = [(self.asked + row) % len(self.models) for row in range(len(images))]
        answers = self.whole[0].new_empty(len(images), self.whole[0].shape[1])  # (N, classes)
        for place, model in enumerate(self.models):
            rows = [row for row, whose in enumerate(turn) if whose == place]
            if rows:
                answers[rows] = model(images[rows]) - self.whole[place]
        self.asked += len(images)
        return answers
