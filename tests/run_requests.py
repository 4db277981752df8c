"""A run's request on a small network, for the tests of whole runs."""

from functools import partial
from pathlib import Path
from typing import Any

from spade_cli import interpretation
from spade_cli.models import ModelSource
from spade_cli.pruning import find_pruner, schedule
from spade_cli.run import pipeline
from spade_cli.run.calibrate import Calibration
from spade_cli.run.trace_settings import TraceSettings

METHODS = ("saliency", "deeplift", "lrp", "lime")


def request(picture: Path, output: Path, **changes: Any) -> pipeline.RunRequest:
    """Of `picture`, into a new folder in `output`; `changes` are fields of the request or of its trace."""
    settings: dict[str, Any] = dict(
        image=picture,
        model=ModelSource(None, factory="networks:small", size=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        output=output,
        sample_count=40,
        pruner=find_pruner("sparsegpt"),
        pruner_name="sparsegpt",
        level=0.5,
        schedule=schedule.uniform,
        schedule_name="uniform",
        calibration=Calibration(batch_size=16, precision="float32"),
        saliency={name: interpretation.METHODS[name] for name in METHODS},
        visualize=partial(interpretation.visualize, steps=3),
        visualization_targets=(1, "conv2:4"),
        command="spade run",
        config="seed: 0\n",
    )
    settings |= changes
    settings["saliency"] = {name: interpretation.SmoothedMethod(one) for name, one in settings["saliency"].items()}
    own = {name: settings.pop(name) for name in list(settings) if name in TraceSettings.__dataclass_fields__}
    return pipeline.RunRequest(**settings, trace=TraceSettings(**own))
