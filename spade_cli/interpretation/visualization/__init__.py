"""Feature visualization: pictures that excite a channel; one file for each way to make them."""

from collections.abc import Callable, Mapping

from torch import Tensor

from spade_cli.interpretation.visualization.accentuation import accentuate
from spade_cli.interpretation.visualization.lucent_loop import visualize_with_lucent
from spade_cli.interpretation.visualization.spectrum import visualize

# By name, as in `interpreter.visualization`: functions (networks, targets, *, size, mean, std, ...) -> pictures. Some
# take the image as well: `bind_image` gives it to them.
VISUALIZERS: Mapping[str, Callable[..., Tensor]] = {
    "spectrum": visualize,
    "lucent": visualize_with_lucent,
    "accentuation": accentuate,
}
