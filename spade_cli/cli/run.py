"""spade run: explain one image by the trace of a network on it."""

from typing import Any

from spade_cli.cli.config.compose import CommandLine, run_command
from spade_cli.cli.terminal import console, print_run

USAGE = "spade run image=PATH|URL [KEY=VALUE ...]"
EXAMPLES = (
    "spade run image=cat.jpg",
    "spade run image=https://example.org/cat.jpg",
    "spade run image=cat.jpg model=resnet18 target='tiger cat' pruner.sparsity=0.95",
    "spade run image=cat.jpg model=squeezenet1_1 model.weights=mine.safetensors model.labels=classes.txt",
    "spade run image=cat.jpg model=python model.factory=mynet.model:build model.size=64",
    "spade run image=cat.jpg interpreter=saliency interpreter.methods=all",
    "spade run image=cat.jpg interpreter=visualization 'interpreter.targets=[tabby,layer4.2:17]'",
    "spade run image=cat.jpg schedule=uniform 'schedule.layers={layer4.*: 0.95, fc: 0}'",
)


def main(arguments: list[str]) -> int:
    """Compose the configuration and run it."""
    return run_command("run", arguments, _run, USAGE, EXAMPLES)


def _run(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.cli.config.settings import run_request
    from spade_cli.run import pipeline

    print_run(pipeline.run(run_request(config, line), console(line.views)), line.views)
