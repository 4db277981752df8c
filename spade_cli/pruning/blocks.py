"""layers -> blocks: the parts of a network that a schedule treats as one."""

from collections.abc import Sequence

from spade_cli.pruning.layers import Layer


def blocks(layers: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    """The prunable layers by block, from the output to the input; in each block in the order of `layers`."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        if layer.reason is None:
            found.setdefault(layer.block, []).append(layer.name)
    return {name: tuple(found[name]) for name in reversed(found)}


def body(layers: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    """`blocks` without the head, the layer that makes the scores, unless there is nothing else.

    A small head suffers first: at 0.95 twelve classes of 64 channels keep three each, and the maps get worse
    (docs/schedules.md).
    """
    found = blocks(layers)
    head = next(iter(found), None)
    if head is not None and len(found[head]) == 1 and len(found) > 1:
        del found[head]
    return found
