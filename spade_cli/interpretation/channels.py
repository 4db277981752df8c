"""Where a layer's output has its channels."""

from collections.abc import Sequence

from torch import nn

SECOND = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
OWN: tuple[type[nn.Module], ...] = (*SECOND, nn.Linear, nn.LayerNorm)  # a subclass may move the axes about


def channel_axis(shape: Sequence[int], layer: nn.Module | None = None) -> int:
    """The axis of the channels in an output of this shape, its batch included.

    Torch's own layers say it: linear ones and layer norms over one axis have them last, convolutions and batch norms
    second. Of others, the second of vectors (N, C) and maps (N, C, H, W), the last of tokens (N, T, C) and of maps
    (N, H, W, C): pictures are square, so a map's two equal axes are its rows and columns (Swin, ConvNeXt). Where three
    are equal, and where none are, it is taken for (N, C, H, W).
    """
    own = next((kind for kind in OWN if isinstance(layer, kind) and type(layer).forward is kind.forward), None)
    if own in SECOND:
        return 1
    if own is nn.Linear or (isinstance(layer, nn.LayerNorm) and own and len(layer.normalized_shape) == 1):
        return len(shape) - 1
    if len(shape) == 4:
        return 3 if shape[1] == shape[2] != shape[3] else 1
    return 2 if len(shape) == 3 else 1
