"""spade: why did this vision network say that, about this image?

>>> import spade_cli                                                        # doctest: +SKIP
>>> trace = spade_cli.trace(model, image, pruner="forward", sparsity=0.95)  # doctest: +SKIP
>>> trace.model                                                             # doctest: +SKIP
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "Calibration",
    "Classifier",
    "Run",
    "Trace",
    "__version__",
    "load_image",
    "load_model",
    "open_run",
    "trace",
    "traces",
    "wrap",
]

if TYPE_CHECKING:
    from spade_cli.calibration import Calibration
    from spade_cli.images import load_image
    from spade_cli.models import Classifier, load_model, wrap
    from spade_cli.pipeline import trace, traces
    from spade_cli.pruning import Trace
    from spade_cli.runs import Run, open_run

_HOME = {
    "Calibration": "spade_cli.calibration",
    "Classifier": "spade_cli.models",
    "Run": "spade_cli.runs",
    "Trace": "spade_cli.pruning",
    "load_image": "spade_cli.images",
    "load_model": "spade_cli.models",
    "open_run": "spade_cli.runs",
    "trace": "spade_cli.pipeline",
    "traces": "spade_cli.pipeline",
    "wrap": "spade_cli.models",
}


def __getattr__(name: str) -> object:
    # torch takes seconds to import; `spade --help` must not pay for it.
    if name not in _HOME:
        raise AttributeError(f"module 'spade_cli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
