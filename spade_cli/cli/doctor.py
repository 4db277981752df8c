"""spade doctor: try a trace, every method and visualizations on one network, and say what can be trusted."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.compose import Asked, run_command

if TYPE_CHECKING:
    from torch import Tensor

    from spade_cli.inspection.examine import Finding
    from spade_cli.pruning import Layer

USAGE = "spade doctor [model=NAME] [KEY=VALUE ...]"
EXAMPLES = (
    "spade doctor model=vit_b_16",
    "spade doctor model=timm model.name=convnextv2_atto image=cat.jpg",
    "spade doctor model=python model.factory=mynet.model:build model.size=64 interpreter.methods=[lrp,deeplift]",
)
HEADER = ("what", "verdict", "checks", "seconds", "memory", "why")
USUAL_SIZE = 224  # pixels a side, for which configs/doctor.yaml sets the windows
PIXELS = 9  # of the random picture, before it is enlarged: patches of colour, as photographs have, and no noise


def main(arguments: list[str]) -> int:
    """Compose the configuration, examine the network and print the table."""
    return run_command("doctor", arguments, _doctor, USAGE, EXAMPLES)


def _doctor(config: dict[str, Any], asked: Asked) -> None:
    from dataclasses import replace

    from spade_cli.cli.config.conditions import trace_settings
    from spade_cli.cli.config.model import model_source
    from spade_cli.cli.config.settings import (
        MAX_SEED,
        device_name,
        function_of,
        saliency_methods,
        sample_count,
        visualization,
        visualization_targets,
    )
    from spade_cli.cli.config.values import section, whole
    from spade_cli.devices import device_of, full_precision, pick_device
    from spade_cli.errors import UserError
    from spade_cli.inspection.examine import examine
    from spade_cli.interpretation import check_cam_layer
    from spade_cli.models import load_model
    from spade_cli.pruning import Auto, find_layers, schedule
    from spade_cli.run.find_trace import check_finite

    seed = whole("seed", config.get("seed"), 0, MAX_SEED)
    augmentation, interpreter = section(config, "augmentation"), section(config, "interpreter")
    model = model_source(section(config, "model"), asked.choices.get("model"))
    samples = sample_count(augmentation, model.size)
    settings = trace_settings(config)
    methods, visualize = saliency_methods(interpreter, seed), visualization(interpreter)
    augment = function_of("augmentation", augmentation)
    device = pick_device(device_name(config.get("device")))
    image, notes = _image(config.get("image"), seed)
    with full_precision():
        classifier = load_model(model, seed=seed)
        classifier = replace(classifier, model=classifier.model.to(device))
        own = classifier.preprocessing
        x = own.normalise(own.view(image).to(device_of(classifier.model)))
        check_cam_layer(methods, classifier.model)
        methods = _fit_window(methods, own.size, asked.overrides)
        layers = find_layers(classifier.model, x)
        asked_shares = schedule.settle(settings.schedule, layers, settings.sparsity, settings.layer_shares)
        if isinstance(asked_shares, Auto):
            raise UserError("schedule=auto needs an image that means something; give spade doctor schedule=late")
        channels = _channels(visualization_targets(interpreter), classifier, x, layers) if visualize else {}
        check_finite(classifier.model(x)[0].detach().cpu(), classifier)
        console = terminal.console(asked.views)
        _tell_layers(classifier, layers, notes, console.print if terminal.as_json(asked.views) else own_stdout.say)
        found = examine(
            classifier,
            x,
            augment(image, samples, own, seed),
            layers,
            asked_shares,
            {asked.choices["pruner"]: settings.pruner},
            methods,
            visualize,
            channels,
            seed=seed,
            damping=settings.damping,
            on_finding=lambda finding: console.print(f"{finding.what:<32} {finding.seconds:6.1f} s"),
        )
    if terminal.as_json(asked.views):
        terminal.print_objects([vars(finding) for finding in found])
    else:
        terminal.print_table(HEADER, [row(finding) for finding in found], asked.views, right=("seconds", "memory"))


def _fit_window(
    methods: dict[str, Callable[..., object]], size: int, overrides: Sequence[str]
) -> dict[str, Callable[..., object]]:
    """Occlusion's square as a quarter of a picture smaller than its usual one, unless a size was typed."""
    typed = any(word.lstrip("+").startswith("interpreter.occlusion.") for word in overrides)
    if typed or "occlusion" not in methods or size >= USUAL_SIZE:
        return methods
    side = max(1, size // 4)
    return methods | {"occlusion": partial(methods["occlusion"], window=side, stride=side)}


def _image(picture: Any, seed: int) -> "tuple[Tensor, Sequence[str]]":
    """The picture asked for, or patches of random colours: uint8 (3, H, W); and what there is to know of it."""
    import torch
    from torchvision.transforms.functional import resize

    from spade_cli.cli.config.values import path, text
    from spade_cli.images.download import is_url
    from spade_cli.images.load import read_image

    if picture is not None:
        written = text("image", picture, "PATH")
        return read_image(written if is_url(written) else path("image", written, "PATH"))
    patches = torch.randint(0, 256, (3, PIXELS, PIXELS), generator=torch.Generator().manual_seed(seed))
    return resize(patches.to(torch.uint8), [512, 512], antialias=True), ()


def _channels(targets: Sequence[str | int], classifier: Any, x: "Tensor", layers: "list[Layer]") -> Mapping[str, Any]:
    """The visualizations asked for; by default the class, and a channel of a layer in the middle."""
    from spade_cli.run.request import find_channels

    if targets:
        return find_channels(targets, classifier, x)
    target = int(classifier.model(x)[0].argmax())
    reached = [layer for layer in layers if layer.supported]
    middle = [f"{reached[len(reached) // 2].name}:0"] if reached else []
    return find_channels([target, *middle], classifier, x)


def _tell_layers(classifier: Any, layers: "list[Layer]", notes: Sequence[str], say: Callable[[str], object]) -> None:
    """One line of counts, a line for each reason that leaves layers out, and one for each note."""
    reasons: dict[str, list[str]] = {}
    for layer in layers:
        if layer.reason is not None:
            reasons.setdefault(layer.reason, []).append(layer.name)
    prunable = sum(layer.reason is None for layer in layers)
    reached = sum(layer.supported for layer in layers)
    own = classifier.preprocessing
    say(
        f"{classifier.name}: pictures of {own.size} x {own.size}, {classifier.classes} classes; {len(layers)} layers, "
        f"{reached} reached, {prunable} prunable"
    )
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        say(f"  left: {names[0]}{more} ({reason})")
    for note in (*notes, *classifier.notes):
        say(f"  note: {note}")


def row(finding: "Finding") -> tuple[str, ...]:
    """A finding as the cells of a table."""
    checks = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in finding.checks.items())
    memory = "" if finding.memory is None else f"{finding.memory / 2**20:.0f} MiB"
    return finding.what, finding.verdict, checks, f"{finding.seconds:.1f}", memory, "; ".join(finding.why)
