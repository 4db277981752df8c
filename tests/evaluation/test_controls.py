"""Controls that know nothing of a network: edges against Sobel's definition in a loop, noise by its seed."""

import pytest
import torch

from spade_cli.evaluation.measures.controls import CONTROLS, edges, noise
from spade_cli.interpretation import METHODS


def test_edges_are_the_size_of_the_sobel_gradient_of_every_channel() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 6, 7)
    weights = (1, 2, 1)
    found = edges(x, 0)
    for row in range(6):
        for column in range(7):
            total = 0.0
            for channel in x[0]:

                def at(
                    i: int, j: int, channel: torch.Tensor = channel
                ) -> float:  # beyond the border: the border's value
                    return channel[min(max(i, 0), 5), min(max(j, 0), 6)].item()

                steps = enumerate(weights, -1)
                across = sum(w * (at(row + d, column + 1) - at(row + d, column - 1)) for d, w in steps)
                steps = enumerate(weights, -1)
                down = sum(w * (at(row + 1, column + d) - at(row - 1, column + d)) for d, w in steps)
                total += (across**2 + down**2) ** 0.5
            assert found[row, column].item() == pytest.approx(total, abs=1e-4)
    assert not edges(torch.ones(1, 3, 5, 5), 0).any()


def test_noise_is_the_seeds() -> None:
    x = torch.zeros(1, 3, 8, 9)
    assert noise(x, 0).shape == (8, 9) and noise(x, 0).equal(noise(x, 0)) and not noise(x, 0).equal(noise(x, 1))


def test_controls_have_names_of_their_own() -> None:
    assert not set(CONTROLS) & set(METHODS)
