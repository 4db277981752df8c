"""The dense network's pictures, which are the same for every image: made once and kept in the cache."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spade_cli.cache import Cache
from spade_cli.devices import device_of, name_processor
from spade_cli.interpretation.channels import Channel, observe_layers
from spade_cli.interpretation.visualization import VISUALIZERS
from spade_cli.networks.fingerprint import fingerprint
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.progress import log
from spade_cli.sizes import find_sides, key_size

KIND = "spade visualizations 2"
LIBRARIES = ("torch", "torch-lucent", "kornia", "numpy")
# Given in each call; the rest are settings.
GIVEN = ("networks", "targets", "size", "mean", "std", "seed", "dense", "on_step")


class Pictures(NamedTuple):
    """Pictures (targets, 3, H, W) in [0, 1], and whether they came from the cache."""

    values: Tensor
    cached: bool = False


def visualize_dense(
    cache: Cache | None,
    function: Callable[..., Tensor],
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    *,
    name: str,
    on_step: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Pictures:
    """What `function`, a `Visualizer`, makes of networks: from the cache, bit for bit, where it made the same before.

    name: of the network, for people. settings: size, mean, std, seed. Only what spade's own visualizers make is kept,
    and nothing with an objective of the user's own: what its code does has no name. Raises what `function` raises; what
    goes wrong with the cache is logged.
    """
    make = partial(function, networks, targets, **settings)
    key = None if cache is None else _name_pictures(function, networks, targets, settings)
    if cache is None or key is None:
        return Pictures(make(on_step=on_step).contiguous())  # as from the cache, also in memory
    shape = (len(targets), 3, *find_sides(settings["size"]))
    kept = cache.read(key)
    if kept is not None and kept.shape == shape and kept.dtype == "float32":
        if on_step is not None:
            on_step(1, 1)
        return Pictures(torch.from_numpy(kept.copy()), cached=True)
    values = make(on_step=on_step).contiguous()
    named = ", ".join(str(target) for target in targets)
    steps = str(_bind_settings(function).get("steps", ""))
    cache.write(
        key, values.numpy(), {"network": name, "targets": named, "steps": steps, "size": key_size(settings["size"])}
    )
    return Pictures(values)


def _name_pictures(
    function: Callable[..., Tensor],
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    settings: dict[str, Any],
) -> str | None:
    """A name for pictures: of everything that their last bit depends on; None where that cannot be said."""
    bound = _bind_settings(function)
    if not bound or bound["objective"] is not None:
        return None
    try:
        named = [one for network in networks for one in (*network.named_parameters(), *network.named_buffers())]
        how = {
            **bound,
            **settings,
            "targets": [str(target) for target in targets],
            "networks": [repr(network) for network in networks],
            "weights": [name for name, _ in named],
            "code": hashlib.sha256(b"".join(file.read_bytes() for file in _code())).hexdigest(),
            "versions": {name: metadata.version(name) for name in LIBRARIES},
            "processor": name_processor(device_of(networks[0])),
            "threads": torch.get_num_threads(),
            "precision": torch.get_float32_matmul_precision(),
        }
        # A forward of the user's own can change while its modules and weights do not: what it answers has a say.
        answers = [answer for network in networks for answer in _answer_noise(network, targets, settings)]
        return fingerprint(KIND, [*(value for _, value in named), *answers], how)
    except Exception as error:  # whatever a network of the user's raises; `function` will raise it as well, or work
        log.warning("cache: the visualizations are not kept (%s: %s)", type(error).__name__, error)
        return None


def _bind_settings(function: Callable[..., Tensor]) -> dict[str, Any]:
    """A visualizer's name and its settings, defaults filled in; empty for a function that is none of spade's own."""
    bound = function.keywords if isinstance(function, partial) else {}
    plain = function.func if isinstance(function, partial) else function
    if plain not in VISUALIZERS.values() or "image" in bound:  # which is another one in each run
        return {}
    defaults = {name: one.default for name, one in inspect.signature(plain).parameters.items()}
    own = {name: bound.get(name, default) for name, default in defaults.items() if name not in GIVEN}
    return {"visualizer": plain.__name__, **own}


def _code() -> list[Path]:
    """The files that say how a picture is made."""
    here = Path(__file__).parent
    return [*sorted(here.glob("*.py")), here.parent / "channels.py"]


def _answer_noise(network: nn.Module, targets: Sequence[Channel], settings: dict[str, Any]) -> list[Tensor]:
    """What the targets' layers make of one picture of noise."""
    device, sides = device_of(network), find_sides(settings["size"])
    layers = list(dict.fromkeys(target.layer for target in targets))
    noise = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad(), seed_generators(0, device), observe_layers(network, layers) as observe:
        outputs = observe(noise)
        return [outputs[layer] for layer in layers]
