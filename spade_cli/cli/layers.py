"""spade layers: list a network's convolution and linear layers, and which of them can be pruned."""

from typing import TYPE_CHECKING, Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.compose import CommandLine, run_command

if TYPE_CHECKING:
    from spade_cli.pruning.layers import Layer

USAGE = "spade layers [model=NAME] [KEY=VALUE ...]"
EXAMPLES = (
    "spade layers model=vit_b_16",
    "spade layers model=torchvision model.name=densenet121",
    "spade layers model=python model.factory=mynet.model:build model.size=64",
)
HEADER = ("layer", "kind", "weight", "share", "prunable", "why not")


def main(arguments: list[str]) -> int:
    """Compose the configuration and print the table."""
    return run_command("layers", arguments, _layers, USAGE, EXAMPLES)


def _layers(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.cli.config.check_values import section
    from spade_cli.cli.config.model import model_source
    from spade_cli.models import load_model
    from spade_cli.pruning.layers import find_layers

    classifier = load_model(model_source(section(config, "model"), line.choices.get("model")))
    layers = find_layers(classifier.model, classifier.grey())
    total = sum(parameter.numel() for parameter in classifier.model.parameters())
    prunable = [layer for layer in layers if layer.reason is None]
    if terminal.as_json(line.views):
        terminal.print_objects([_record(layer, total) for layer in layers])
        return
    terminal.print_table(HEADER, [_row(layer, total) for layer in layers], line.views, right=("share",))
    share = sum(layer.parameters for layer in prunable) / max(total, 1)
    own_stdout.say(
        f"{classifier.name}: {len(prunable)} of {len(layers)} layers can be pruned; "
        f"they hold {share:.1%} of {total:,} parameters"
    )


def _record(layer: "Layer", total: int) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "shape": layer.shape,
        "share": layer.parameters / total,
        "prunable": _say_prunable(layer),
        "why_not": layer.reason,
    }


def _row(layer: "Layer", total: int) -> tuple[str, ...]:
    shape = " x ".join(map(str, layer.shape))
    return layer.name, layer.kind, shape, f"{layer.parameters / total:.2%}", _say_prunable(layer), layer.reason or ""


def _say_prunable(layer: "Layer") -> str:
    return "yes" if layer.reason is None else "if named" if layer.supported else "no"
