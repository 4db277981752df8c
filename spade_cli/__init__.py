"""spade: why did this vision network say that, about this image?

>>> import spade_cli                                                        # doctest: +SKIP
>>> trace = spade_cli.trace(model, image, pruner="forward", sparsity=0.95)  # doctest: +SKIP
>>> trace.model                                                             # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from spade_cli.version import __version__

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
    from spade_cli.images.load import load_image
    from spade_cli.models import Classifier, load_model, wrap
    from spade_cli.pruning import Trace
    from spade_cli.report.notebook import Run, open_run
    from spade_cli.run.calibrate import Calibration
    from spade_cli.run.pipeline import trace, traces

_HOME = {
    "Calibration": "spade_cli.run.calibrate",
    "Classifier": "spade_cli.models",
    "Run": "spade_cli.report.notebook",
    "Trace": "spade_cli.pruning",
    "load_image": "spade_cli.images.load",
    "load_model": "spade_cli.models",
    "open_run": "spade_cli.report.notebook",
    "trace": "spade_cli.run.pipeline",
    "traces": "spade_cli.run.pipeline",
    "wrap": "spade_cli.models",
}


def __getattr__(name: str) -> object:
    # torch takes seconds to import; `spade --help` must not pay for it.
    if name not in _HOME:
        raise AttributeError(f"module 'spade_cli' has no attribute {name!r}")
    from importlib import import_module

    import_module("spade_cli.report.notebook").show_in_notebooks()
    return getattr(import_module(_HOME[name]), name)
