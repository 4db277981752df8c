"""Controls: what randomisation changes and leaves, Spearman's correlation, the overlap of traces; fidelity."""

import pytest
import torch
from networks import small
from scipy.stats import spearmanr

from spade_cli.evaluation.measures.fidelity import fidelity
from spade_cli.evaluation.measures.sanity import chance_overlap, kept_overlap, randomise_layers, rank_correlation


def test_randomisation_starts_at_the_output_and_keeps_the_scale() -> None:
    network = small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    changed = {}
    for share in (0, 0.25, 0.5, 1):
        copied, count = randomise_layers(network, share, seed=0)
        changed[share] = {name for name, value in copied.state_dict().items() if not value.equal(before[name])}
        assert len(changed[share]) == count
    assert changed[0] == set() and changed[0.25] == {"head.weight"}
    assert changed[0.5] == {"head.weight", "conv2.weight"} and len(changed[1]) == 4
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    half, all_of_it = randomise_layers(network, 0.5, 0)[0], randomise_layers(network, 1, 0)[0]
    assert half.conv2.weight.equal(all_of_it.conv2.weight)  # a cascade: deeper goes on from shallower
    assert half.conv2.weight.std().item() == pytest.approx(network.conv2.weight.std().item(), rel=0.2)
    assert randomise_layers(network, 0.01, 0)[1] == 1  # the least is one layer


def test_rank_correlation_is_spearmans() -> None:
    first, second = torch.randn(3, 4, 5), torch.randn(3, 4, 5).round()
    for one, other, found in zip(first, second, rank_correlation(first, second), strict=True):
        assert found == pytest.approx(spearmanr(one.flatten(), other.flatten()).statistic)
    assert rank_correlation(first, first**3).tolist() == pytest.approx([1, 1, 1])
    assert rank_correlation(first, torch.zeros(3, 4, 5)).tolist() == [0, 0, 0]


def test_overlap_is_both_of_either() -> None:
    first, second = small(), small()
    with torch.no_grad():
        first.head.weight[:, :4] = 0
        second.head.weight[:, 2:6] = 0
    assert kept_overlap(first, second, ["head"]) == pytest.approx(2 / 6)
    assert kept_overlap(first, first, ["head", "conv1"]) == 1 and kept_overlap(first, second, []) == 1


def test_chance_overlap_is_what_random_traces_have() -> None:
    """Shares that differ between the traces and between the layers, and many draws of which weights stay."""
    shares = {"conv1": (0.3, 0.1), "conv2": (0.05, 0.5), "head": (1.0, 1.0)}
    generator = torch.Generator().manual_seed(0)
    both = either = expected = 0.0
    for _ in range(200):
        networks = small(), small()
        for layer, kept in shares.items():
            for network, share in zip(networks, kept, strict=True):
                weight = network.get_submodule(layer).weight
                with torch.no_grad():
                    weight.mul_(torch.rand(weight.shape, generator=generator) < share)
        masks = [torch.cat([n.get_submodule(layer).weight.flatten() != 0 for layer in shares]) for n in networks]
        both += int((masks[0] & masks[1]).sum())
        either += int((masks[0] | masks[1]).sum())
        expected += chance_overlap(*networks, shares) / 200
    assert expected == pytest.approx(both / either, abs=0.01)
    assert chance_overlap(small(), small(), shares) == 1 and chance_overlap(small(), small(), []) == 1


def test_fidelity_of_a_network_to_itself_and_to_another() -> None:
    dense, held = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    same = fidelity(dense, dense, held, held, target=1)
    assert same == pytest.approx(
        dict(same_prediction=1, agreement=1, kl=0, logit_change=0, probability=dense.softmax(0)[1].item())
    )
    other = fidelity(dense, -dense, held, held.flip(1), target=1)
    assert (other["same_prediction"], other["agreement"], other["logit_change"]) == (0, 0, -4) and other["kl"] > 0
