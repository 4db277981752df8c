"""layers -> shares: how one level becomes a share for each layer.

A schedule is `(layers, level, ...) -> {name: share}`, or an `Auto`, whose shares are found for each image. The level is
what was asked for, or None: then it is the schedule's own choice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Protocol

from spade_cli.errors import UserError
from spade_cli.pruning.blocks import blocks, body
from spade_cli.pruning.layers import Layer
from spade_cli.pruning.search import HEAD, LADDER, LAST_RESORT, Auto

LEVEL = 0.95  # where none is asked for


@dataclass(frozen=True)
class Shares:
    """What a schedule and `schedule.layers` say of a network's layers."""

    given: Mapping[str, float]  # layer -> share; a layer that is not there stays dense, or is searched
    search: Auto | None = None  # how the shares of the other layers are found for each image

    @property
    def is_searched(self) -> bool:
        """Whether each image has shares of its own."""
        return self.search is not None

    @property
    def head(self) -> tuple[str, ...]:
        """The layers of the head, if a search of its own finds their share, for visualizations."""
        if self.search is None or not self.search.head_shares or set(self.search.head) & set(self.given):
            return ()
        return self.search.head

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are pruned, or may be: those whose statistics are needed."""
        candidates = () if self.search is None else self.search.candidates
        return tuple(dict.fromkeys([*candidates, *(layer for layer, share in self.given.items() if share > 0)]))


class Schedule(Protocol):
    """A schedule with its settings bound."""

    def __call__(self, layers: Sequence[Layer], level: float | None, /) -> Mapping[str, float] | Auto:
        """The share of each layer by its name, or how to find the shares for each image."""
        ...


def auto(
    layers: Sequence[Layer],
    level: float | None,
    *,
    fidelity: float = 0.9,
    ladder: Sequence[float] = LADDER,
    last_resort: Sequence[float] = LAST_RESORT,
    head: Sequence[float] = HEAD,
) -> Auto:
    """As sparse as the image's prediction allows, late layers first: how deep at which share is found by trying.

    A level is the only share tried then. fidelity: the top-1 stays, and the target's probability falls by at most
    1 - fidelity, and not by half. head: shares to try for the head, for visualizations only; none leave it dense.
    Raises UserError for shares that are none.
    """
    if level is not None and not 0 < level < 1:
        raise UserError(
            f"pruner.sparsity={level:g} leaves schedule=auto nothing to find; give a share between 0 and 1, or "
            "schedule=uniform"
        )
    shares, resort = (tuple(ladder), tuple(last_resort)) if level is None else ((level,), ())
    named = (("ladder", shares, LADDER), ("last_resort", resort, LAST_RESORT), ("head", head, HEAD))
    for name, found, default in named:
        if any(isinstance(share, bool) or not 0 < share < 1 for share in found) or (name == "ladder" and not found):
            raise UserError(f"schedule.{name}={list(found)}: give shares between 0 and 1, such as {list(default)}")
    if not 0 < fidelity <= 1:
        raise UserError(f"schedule.fidelity={fidelity:g}: give a number above 0, at most 1")
    names = {name for block in body(layers).values() for name in block}
    candidates = tuple(layer.name for layer in layers if layer.name in names)
    above = next(iter(blocks(layers).values()), ())
    return Auto(
        candidates,
        tuple(sorted(shares, reverse=True)),
        tuple(sorted(resort, reverse=True)),
        fidelity,
        () if above[:1] and above[0] in names else above,
        tuple(sorted(head, reverse=True)),
    )


def uniform(layers: Sequence[Layer], level: float | None) -> dict[str, float]:
    """Every layer that can be pruned gets the level."""
    return {layer.name: LEVEL if level is None else level for layer in layers if layer.reason is None}


def late(layers: Sequence[Layer], level: float | None, *, last: float = 0.1) -> dict[str, float]:
    """Only the last blocks before the head get the level: the share `last` of them, at least one.

    Sparse late layers sharpen explanations; sparse early ones mostly cost the prediction. A tenth of the blocks is
    ResNet50's last two, and one of SqueezeNet's: two at 0.95 lost the top-1 of five photographs in eight. "Last" is in
    the order of `named_modules()`.
    """
    if not 0 < last <= 1:
        raise UserError(f"schedule.last={last:g} is not a share of the blocks: give a number above 0, at most 1")
    found = list(body(layers).values())
    chosen = {name for block in found[: max(1, round(len(found) * last))] for name in block}
    share = LEVEL if level is None else level
    return {layer.name: share for layer in layers if layer.name in chosen}


def none(layers: Sequence[Layer], level: float | None) -> dict[str, float]:
    """No layer is pruned but those that `schedule.layers` names."""
    return {}


def table(
    layers: Sequence[Layer], level: float | None, *, shares: Mapping[str, float], source: str = "schedule.shares"
) -> dict[str, float]:
    """Shares by block, layer or glob, later entries over earlier ones; the level is not used.

    `source` is what errors call the table. Raises UserError for a name that matches nothing, as `override_shares` does.
    """
    parts = {name: block for name, block in blocks(layers).items() if name in shares}
    by_layer: dict[str, float] = {}
    for name, share in shares.items():
        for layer in parts.get(name, (name,)):
            by_layer.pop(layer, None)  # the later entry comes last, so that it wins over a glob between them
            by_layer[layer] = share
    return override_shares(layers, {}, by_layer, source)


NAMED = {schedule.__name__: schedule for schedule in (auto, uniform, late, none)}

# Groups of the tuned tables, from the output to the input: the linear layer, then each residual block with its
# downsample convolution.
PAPER_GROUPS = (
    *("fc", "layer4.2", "layer4.1", "layer4.0", "layer3.5", "layer3.4", "layer3.3", "layer3.2", "layer3.1", "layer3.0"),
    *("layer2.3", "layer2.2", "layer2.1", "layer2.0", "layer1.2", "layer1.1", "layer1.0"),
)


def paper_resnet50(
    layers: Sequence[Layer], level: float | None, *, tables: Mapping[str, Sequence[float]], method: str = "lrp"
) -> dict[str, float]:
    """The shares that the paper tuned for ResNet50, per saliency method; the level is not used.

    `tables` holds one row per method, in the order of PAPER_GROUPS (configs/schedule/paper_resnet50.yaml). Raises
    UserError for an unknown method and for a network that is not a ResNet50.
    """
    if method not in tables:
        raise UserError(f"schedule.method={method} has no table: choose one of {', '.join(tables)}")
    table = dict(zip(PAPER_GROUPS, tables[method], strict=True))
    shares = {}
    for layer in layers:
        group = "fc" if layer.name == "fc" else ".".join(layer.name.split(".")[:2])
        if layer.reason is None and table.get(group):
            shares[layer.name] = table[group]
    names = {layer.name for layer in layers}
    if "fc" not in names or any(f"{group}.conv3" not in names for group in PAPER_GROUPS[1:]):
        raise UserError(
            "schedule=paper_resnet50 fits ResNet50 only, and this network's layers are others; "
            "use schedule=late or uniform"
        )
    return shares


def settle_shares(
    schedule: Schedule, layers: Sequence[Layer], level: float | None, patterns: Mapping[str, float]
) -> Shares:
    """What a schedule makes of the layers, with `schedule.layers` over it (see `override_shares`)."""
    found = schedule(layers, level)
    if isinstance(found, Auto):
        return Shares(override_shares(layers, {}, patterns), found)
    return Shares(override_shares(layers, found, patterns))


def override_shares(
    layers: Sequence[Layer], shares: Mapping[str, float], patterns: Mapping[str, float], source: str = "schedule.layers"
) -> dict[str, float]:
    """Apply `schedule.layers`, a dotted name or a glob -> share, over the schedule's; later entries win.

    A glob touches only layers that are prunable by default; an exact name also sets the stem or a depthwise
    convolution. Raises UserError for a pattern that matches nothing and for a layer that cannot be pruned.
    """
    by_name = {layer.name: layer for layer in layers}
    result = dict(shares)
    for pattern, share in patterns.items():
        if not 0 <= share <= 1:
            raise UserError(f"{source}: {pattern}: {share} is not a share; give a number from 0 to 1")
        if pattern in by_name:
            if not by_name[pattern].supported:
                raise UserError(f"{source}: {pattern} cannot be pruned ({by_name[pattern].reason}); take it out")
            matched = [pattern]
        else:
            matched = [layer.name for layer in layers if layer.reason is None and fnmatchcase(layer.name, pattern)]
        if not matched:
            raise UserError(_no_match(source, pattern, by_name))
        result.update(dict.fromkeys(matched, share))
    return result


def _no_match(source: str, pattern: str, by_name: Mapping[str, Layer]) -> str:
    names = [name for name, layer in by_name.items() if layer.supported]
    near = get_close_matches(re.sub(r"[*?\[\]]", "", pattern), names, n=3, cutoff=0.4)
    hint = f"; close: {', '.join(near)}" if near else ""
    return f"{source}: {pattern} matches no layer that can be pruned{hint}; there are: {', '.join(names)}"
