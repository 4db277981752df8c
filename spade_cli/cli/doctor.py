"""spade doctor: try a trace, every method and visualizations on one network, and say what can be trusted."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.compose import CommandLine, run_command

if TYPE_CHECKING:
    from torch import Tensor

    from spade_cli.inspection.examine import Finding
    from spade_cli.interpretation import SmoothedMethod
    from spade_cli.models import Classifier
    from spade_cli.pruning import Layer
    from spade_cli.run.trace_settings import TraceSettings

USAGE = "spade doctor [model=NAME] [KEY=VALUE ...]"
EXAMPLES = (
    "spade doctor model=vit_b_16",
    "spade doctor model=timm model.name=convnextv2_atto image=cat.jpg",
    "spade doctor model=python model.factory=mynet.model:build model.size=64 interpreter.methods=[lrp,deeplift]",
)
HEADER = ("what", "verdict", "checks", "seconds", "memory", "why")
USUAL_SIZE = 224  # pixels a side, for which configs/doctor.yaml sets the windows


def main(arguments: list[str]) -> int:
    """Compose the configuration, examine the network and print the table."""
    return run_command("doctor", arguments, _doctor, USAGE, EXAMPLES)


def _doctor(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.cli.config.check_values import device_name, section
    from spade_cli.cli.config.model import model_source
    from spade_cli.cli.config.settings import saliency_methods, trace_settings, visualization, visualization_targets
    from spade_cli.devices import full_precision
    from spade_cli.run.request import load_on_device

    interpreter = section(config, "interpreter")
    model = model_source(section(config, "model"), line.choices.get("model"))
    settings = trace_settings(config, line.choices, model.size, without=["calibration"])
    methods, visualize = saliency_methods(interpreter, settings.seed), visualization(interpreter)
    targets = visualization_targets(interpreter)
    device = device_name(config.get("device"))
    image, notes = _read_picture(config.get("image"), settings.seed)
    with full_precision():
        classifier = load_on_device(model, device, settings.seed)
        methods = _fit_window(methods, min(classifier.preprocessing.sides), line.overrides)
        found = _examine(classifier, image, notes, settings, methods, visualize, targets, line.views)
    if terminal.as_json(line.views):
        terminal.print_objects([vars(finding) for finding in found])
    else:
        terminal.print_table(
            HEADER, [format_row(finding) for finding in found], line.views, right=("seconds", "memory")
        )


def _examine(
    classifier: "Classifier",
    image: "Tensor",
    notes: Sequence[str],
    settings: "TraceSettings",
    methods: Mapping[str, Callable[..., Any]],
    visualize: "Callable[..., Tensor] | None",
    targets: Sequence[str | int],
    views: Collection[str],
) -> "list[Finding]":
    """Find the layers, tell of them, and try everything on the picture, uint8 (3, H, W)."""
    from spade_cli.devices import device_of
    from spade_cli.errors import UserError
    from spade_cli.inspection.examine import count_findings, examine
    from spade_cli.interpretation import bind_image, check_cam_layer
    from spade_cli.progress import Stages
    from spade_cli.pruning import find_layers
    from spade_cli.run.make_trace import check_finite

    own = classifier.preprocessing
    x = own.normalise(own.view(image).to(device_of(classifier.model)))
    check_cam_layer(methods, classifier.model)
    layers = find_layers(classifier.model, x)
    shares = settings.settle_shares(layers)
    if shares.is_searched:
        raise UserError("schedule=auto needs an image that means something; give spade doctor schedule=late")
    if visualize is not None:
        visualize = bind_image(visualize, own.view(image))
    channels = _channels(targets, classifier, x, layers) if visualize else {}
    check_finite(classifier.model(x)[0].detach().cpu(), classifier)
    console, samples = terminal.console(views), settings.draw_samples(image, own)
    _print_layers(classifier, layers, notes, console.print if terminal.as_json(views) else own_stdout.say)
    with Stages(console).stage("examine", total=count_findings([settings], methods, channels)) as advance:

        def print_finding(finding: "Finding") -> None:
            console.print(f"{finding.what:<32} {finding.seconds:6.1f} s")
            advance(1)

        asked = (methods, visualize, channels, print_finding)
        return examine(classifier, x, samples, layers, shares, [settings], *asked)


def _fit_window(
    methods: "dict[str, SmoothedMethod]", shortest: int, overrides: Sequence[str]
) -> "dict[str, SmoothedMethod]":
    """For a small picture, occlusion's square is a quarter of its shorter side, unless a size was typed."""
    typed = any(word.lstrip("+").startswith("interpreter.occlusion.") for word in overrides)
    if typed or "occlusion" not in methods or shortest >= USUAL_SIZE:
        return methods
    side = max(1, shortest // 4)
    occlusion = methods["occlusion"]
    smaller = partial(occlusion.method, window=side, stride=side)  # type: ignore[call-arg]
    return methods | {"occlusion": replace(occlusion, method=smaller)}


def _read_picture(picture: Any, seed: int) -> "tuple[Tensor, Sequence[str]]":
    """The picture asked for, or patches of random colours: uint8 (3, H, W); and what there is to know of it."""
    import torch
    from torchvision.transforms.functional import resize

    from spade_cli.cli.config.check_values import path, text
    from spade_cli.images.download import is_url
    from spade_cli.images.load import read_image
    from spade_cli.models.rehearsal import PATCHES

    if picture is not None:
        written = text("image", picture, "PATH")
        return read_image(written if is_url(written) else path("image", written, "PATH"))
    patches = torch.randint(0, 256, (3, PATCHES, PATCHES), generator=torch.Generator().manual_seed(seed))
    return resize(patches.to(torch.uint8), [512, 512], antialias=True), ()


def _channels(
    targets: Sequence[str | int], classifier: "Classifier", x: "Tensor", layers: "list[Layer]"
) -> Mapping[str, Any]:
    """The visualizations asked for; by default the class, and a channel of a layer in the middle."""
    from spade_cli.run.request import find_channels

    if targets:
        return find_channels(targets, classifier, x)
    target = int(classifier.model(x)[0].argmax())
    reached = [layer for layer in layers if layer.supported]
    middle = [f"{reached[len(reached) // 2].name}:0"] if reached else []
    return find_channels([target, *middle], classifier, x)


def _print_layers(
    classifier: "Classifier", layers: "list[Layer]", notes: Sequence[str], say: Callable[[str], object]
) -> None:
    """One line of counts, a line for each reason that leaves layers out, and one for each note."""
    from spade_cli.sizes import write_size

    reasons: dict[str, list[str]] = {}
    for layer in layers:
        if layer.reason is not None:
            reasons.setdefault(layer.reason, []).append(layer.name)
    prunable = sum(layer.reason is None for layer in layers)
    reached = sum(layer.supported for layer in layers)
    own = classifier.preprocessing
    say(
        f"{classifier.name}: pictures of {write_size(own.size)}, {classifier.classes} classes; {len(layers)} layers, "
        f"{reached} reached, {prunable} prunable"
    )
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        say(f"  left: {names[0]}{more} ({reason})")
    for note in (*notes, *classifier.notes):
        say(f"  note: {note}")


def format_row(finding: "Finding") -> tuple[str, ...]:
    """A finding as the cells of a table."""
    checks = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in finding.checks.items())
    memory = "" if finding.memory is None else f"{finding.memory / 2**20:.0f} MiB"
    return finding.what, finding.verdict, checks, f"{finding.seconds:.1f}", memory, "; ".join(finding.why)
