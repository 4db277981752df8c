"""Where a layer's output has its channels."""

from collections.abc import Sequence

from torch import nn


def channel_axis(shape: Sequence[int], layer: nn.Module | None = None) -> int:
    """The axis of the channels in an output of this shape, its batch included.

    The second of vectors (N, C) and maps (N, C, H, W), the last of tokens (N, T, C) and of maps (N, H, W, C). Pictures
    are square, so a map's two equal axes are its rows and columns (Swin, ConvNeXt). Where three are equal, and where
    none are, a linear layer and a layer norm over the last axis have their channels there; anything else is taken for
    (N, C, H, W).
    """
    if len(shape) != 4:
        return 2 if len(shape) == 3 else 1
    rows, columns = shape[1] == shape[2], shape[2] == shape[3]
    if rows != columns:
        return 3 if rows else 1
    return 3 if _works_on_the_last(layer) else 1


def _works_on_the_last(layer: nn.Module | None) -> bool:
    """Whether a layer is one of torch's own that work on the last axis; a subclass may move the axes about."""
    if isinstance(layer, nn.LayerNorm):
        return type(layer).forward is nn.LayerNorm.forward and len(layer.normalized_shape) == 1
    return isinstance(layer, nn.Linear)
