"""Controls: do maps depend on the weights, and traces on the image? (Adebayo et al. 2018; overlap of kept weights.)"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from spade_cli.evaluation.measures.localisation import ranks
from spade_cli.networks.copies import copy_for_eval
from spade_cli.pruning import find_layers
from spade_cli.pruning.layers import layer_modules


@torch.no_grad()
def randomise_layers(model: nn.Module, share: float, seed: int) -> tuple[nn.Module, int]:
    """A copy with the last `share` of its convolutions and linear layers drawn anew, and how many these are.

    Cascading randomisation (Adebayo et al. 2018, section 4.1) at one depth, counted from the output. New weights are
    normal with the layer's own mean and deviation, so that activations keep their scale; a layer's draw depends on the
    seed and its place alone, so that a deeper copy continues a shallower one. A weight that torch computes anew at each
    call (weight_norm) is left.
    """
    network = copy_for_eval(model)
    modules = layer_modules(network)
    layers = [layer for layer in find_layers(network) if "weight" in modules[layer.name]._parameters]
    count = round(len(layers) * share) if share < 1 else len(layers)
    count = max(count, 1) if share > 0 else 0
    for place, layer in enumerate(reversed(layers[len(layers) - count :])):
        weight = _weight(network, layer.name)
        generator = torch.Generator().manual_seed(seed * 100_003 + place)
        deviation = weight.std().item() if weight.numel() > 1 else 1.0
        drawn = torch.randn(weight.shape, generator=generator) * deviation + weight.mean().item()
        weight.copy_(drawn)
    return network, count


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of two sets of maps (n, H, W), (n,) float64; 0 where one has the same value everywhere."""
    a, b = (ranks(maps.flatten(1)) for maps in (first, second))  # (n, P)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    spread = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(spread > 0, (a * b).sum(1) / spread.where(spread > 0, torch.ones_like(spread)), 0.0)


def kept_overlap(first: nn.Module, second: nn.Module, layers: Iterable[str]) -> float:
    """Of the weights that either trace keeps in these layers, the share that both keep (Jaccard); 1 of none at all.

    Two traces that keep the share k at random overlap by k / (2 - k).
    """
    both = either = 0
    for name in layers:
        a, b = (_weight(network, name).detach().cpu() != 0 for network in (first, second))
        both += int((a & b).sum())
        either += int((a | b).sum())
    return both / either if either else 1.0


def chance_overlap(first: nn.Module, second: nn.Module, layers: Iterable[str]) -> float:
    """The overlap to expect if each trace kept as many weights in each layer as it does, but at random.

    Shares p and q kept of n weights leave pqn to both and (p + q - pq)n to either; 1 of none at all.
    """
    both = either = 0.0
    for name in layers:
        weights = [_weight(network, name) for network in (first, second)]
        p, q = (float((weight != 0).double().mean()) for weight in weights)
        both += p * q * weights[0].numel()
        either += (p + q - p * q) * weights[0].numel()
    return both / either if either else 1.0


def _weight(network: nn.Module, name: str) -> Tensor:
    weight = layer_modules(network)[name].weight
    assert isinstance(weight, Tensor)
    return weight
