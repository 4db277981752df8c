"""model=openclip: CLIP and SigLIP of open_clip (the extra `clip`) as classifiers of the user's prompts."""

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from spade_cli.errors import UserError, error_line
from spade_cli.files import expand_path
from spade_cli.models.build import import_library, mute_libraries, seed_weights
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import Classifier, Fit, ModelSource, Preprocessing, adjust_preprocessing
from spade_cli.models.zero_shot import ZeroShot, check_prompts, make_head, refuse_long_prompt, settle_scores
from spade_cli.sizes import find_sides, make_size

CONFIG = "open_clip_config.json"  # of a folder, and of a network on the hub
FITS: dict[str, Fit] = {"shortest": "crop", "squash": "squash"}  # open_clip's resize_mode -> ours
SHOWN = 4  # tags of weights that an error names


def load_classifier(source: ModelSource, seed: int) -> Classifier:
    """The network of that name, with the prompts as classes.

    Raises UserError for an unknown name, weights or a tokenizer that cannot be read, and senseless prompts.
    """
    open_clip = import_library("open_clip", "model=openclip", extra="clip")
    name = _find_name(open_clip, source.name or "")
    asked = f"model=openclip model.name={source.name}"
    prompts = check_prompts(source.prompts, "model=openclip")
    network, weights, sha256, notes = _load_network(open_clip, name, source, seed, asked)
    network = network.float().eval()
    bias = getattr(network, "logit_bias", None)
    output = settle_scores(prompts, bias, source.output, source.name or "")
    head = make_head(_encode_prompts(open_clip, network, name, prompts, asked), network.logit_scale, bias)
    seen = adjust_preprocessing(_read_preprocessing(open_clip, network, asked), source)
    model = ZeroShot(network.visual, _split_projection(network.visual), head).eval()
    if sha256 is None and weights != "none":
        sha256 = hash_state(model)
    return Classifier(model, source.name or "", weights, sha256, prompts, seen, len(prompts), notes, output)


def _find_name(open_clip: Any, name: str) -> str:
    """The name as open_clip wants it: a folder and a name on the hub get its prefixes. UserError for unknown ones."""
    if name.startswith(("~", ".", "/")):
        folder = expand_path(name)
        if not (folder / CONFIG).is_file():
            of_transformers = "; it is a folder of transformers: take model=clip"
            hint = of_transformers if (folder / "config.json").is_file() else "; give a folder that open_clip wrote"
            raise UserError(f"model=openclip model.name={name} has no {CONFIG}{hint}")
        return f"local-dir:{folder}"
    if name.startswith(("hf-hub:", "local-dir:")):
        return name
    if "/" in name:
        return f"hf-hub:{name}"
    known = open_clip.list_models()
    if name not in known:
        near = get_close_matches(name, known, n=3) or known[:3]
        raise UserError(f"model=openclip model.name={name} is no network of open_clip; close: {', '.join(near)}")
    return name


def _load_network(
    open_clip: Any, name: str, source: ModelSource, seed: int, asked: str
) -> tuple[Any, str, str | None, tuple[str, ...]]:
    """The network with both its sides, what its weights are called, their hash, and notes."""
    bare = not name.startswith(("hf-hub:", "local-dir:"))
    tags = open_clip.list_pretrained_tags_by_model(name) if bare else []
    if source.weights == "default" and bare:
        shown = ", ".join(tags[:SHOWN]) + (", ..." if len(tags) > SHOWN else "")
        raise UserError(
            f"{asked} does not say which weights: give model.weights=TAG ({shown or 'it has none'}) or PATH"
        )
    if source.weights in tags:
        quick = bool(open_clip.get_pretrained_cfg(name, source.weights).get("quick_gelu"))  # as it was trained
        network = _create(
            open_clip, name, asked, pretrained=source.weights, force_quick_gelu=quick, require_pretrained=True
        )
        return network, source.weights, None, ()
    if source.weights == "default":
        return _create(open_clip, name, asked, require_pretrained=True), name, None, ()
    with seed_weights(seed):
        network = _create(open_clip, name, asked, load_weights=False, pretrained_text=False)
    if source.weights == "none":
        return network, "none", None, ()
    path = expand_path(source.weights)
    if bare and not path.exists() and path.name == source.weights:
        known = f"its tags are {', '.join(tags)}" if tags else "it has no tags"
        raise UserError(f"model.weights={source.weights} is no file and no weights of {name}; {known}")
    state, notes = read_state_dict(path, network, source.ema)
    load_weights(network, state, f"model.weights={path}", asked)
    return network, str(path), hash_file(path), notes


def _create(open_clip: Any, name: str, asked: str, **settings: Any) -> Any:
    try:
        with mute_libraries():
            return open_clip.create_model(name, **settings)
    except Exception as error:  # from the hub, from a configuration, from a file
        raise UserError(
            f"{asked} could not be loaded ({error_line(error)}); give open_clip's name of a network, one on the hub, "
            f"or a folder with {CONFIG} and weights"
        ) from error


@torch.no_grad()
def _encode_prompts(open_clip: Any, network: Any, name: str, prompts: tuple[str, ...], asked: str) -> Tensor:
    """The prompts' embeddings, (P, D). Raises UserError for one that open_clip would cut off, and without tokenizer."""
    try:
        with mute_libraries():
            tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # whatever transformers raises about files that are not there
        raise UserError(
            f"{asked} has no tokenizer ({error_line(error)}); put its files into the folder, or give the name of a "
            "network of open_clip"
        ) from error
    tokens: Tensor = tokenizer(list(prompts))  # (P, T), filled up
    length = tokens.shape[1]
    for prompt, longer in zip(prompts, tokenizer(list(prompts), context_length=2 * length), strict=True):
        if bool((longer[length:] != longer[-1]).any()) or bool(longer[-1] != longer[-2]):
            refuse_long_prompt(prompt, length)
    texts: Tensor = network.encode_text(tokens)
    return texts


def _split_projection(vision: nn.Module) -> nn.Module:
    """The image encoder's last product as a layer of its own, which can be pruned; the encoder then ends before it."""
    weight = getattr(vision, "proj", None)  # a matrix (F, D) of open_clip's vision transformers
    if not isinstance(weight, nn.Parameter):
        return nn.Identity()
    projection = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    projection.weight = nn.Parameter(weight.detach().T.contiguous())
    vision.register_parameter("proj", None)
    return projection


def _read_preprocessing(open_clip: Any, network: Any, asked: str) -> Preprocessing:
    """As open_clip shows pictures to the network. Raises UserError for bars beside them."""
    wanted = open_clip.get_model_preprocess_cfg(network)
    mode = wanted.get("resize_mode", "shortest")
    if mode not in FITS:
        raise UserError(f"{asked}: spade resizes by {' or '.join(FITS)}, and cannot show its resize_mode {mode}")
    size = make_size(*find_sides(wanted.get("size", 224)))
    interpolation = InterpolationMode(wanted.get("interpolation", "bicubic"))
    return Preprocessing(size, size, tuple(wanted["mean"]), tuple(wanted["std"]), interpolation, FITS[mode])
