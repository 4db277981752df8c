"""model=clip: CLIP and SigLIP of transformers as classifiers of the user's prompts, by hub name or from a folder."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError, error_line
from spade_cli.files import expand_path
from spade_cli.models.build import import_library, mute_libraries, seed_weights
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import Classifier, ModelSource, adjust_preprocessing
from spade_cli.models.huggingface import NO_CODE, expand_folder, load_network, load_part, read_preprocessing
from spade_cli.models.zero_shot import ZeroShot, check_prompts, make_head, refuse_long_prompt, settle_scores

LEAST_WORDS, MOST_WORDS = 0.9, 1.1  # share of the network's tokens: some networks, and some tokenizers, have spare ones
KINDS = ("clip", "siglip")  # transformers' model_type; siglip is that of SigLIP 2 in one fixed size, too


class PooledZeroShot(ZeroShot):
    """The classifier with an image encoder of transformers, which answers with several values."""

    def encode(self, image: Tensor) -> Tensor:
        """The pooled features of images, (N, F)."""
        features: Tensor = self.vision(image).pooler_output
        return features


def load_classifier(source: ModelSource, seed: int) -> Classifier:
    """The network of that name or folder, with the prompts as classes.

    Raises UserError where it, its weights, its tokenizer or its processor cannot be read, and for senseless prompts.
    """
    transformers = import_library("transformers", "model=clip", extra="clip")
    name = expand_folder(source.name or "")
    asked = f"model=clip model.name={name}"
    prompts = check_prompts(source.prompts, "model=clip")
    kind = _read_kind(transformers, name, asked)
    with seed_weights(seed):
        network = load_network(transformers, "AutoModel", name, source.weights != "default", asked)
    network = network.float().eval()
    processor = load_part(transformers, "AutoImageProcessor", name, "image processor", asked).to_dict()
    tokenizer = load_part(transformers, "AutoTokenizer", name, "tokenizer", asked)
    notes: tuple[str, ...] = ()
    if source.weights not in ("default", "none"):
        path = expand_path(source.weights)
        state, notes = read_state_dict(path, network, source.ema)
        load_weights(network, state, f"model.weights={path}", asked)
    _check_tokenizer(tokenizer, network.config.text_config.vocab_size, name, asked)
    bias = getattr(network, "logit_bias", None)
    output = settle_scores(prompts, bias, source.output, name)
    head = make_head(_encode_prompts(network, tokenizer, prompts, kind), network.logit_scale, bias)
    projection = network.visual_projection if kind == "clip" else nn.Identity()
    model = PooledZeroShot(network.vision_model, projection, head).eval()
    weights, sha256 = _name_weights(source.weights, name, model)
    seen = adjust_preprocessing(read_preprocessing(processor, name), source)
    return Classifier(model, name, weights, sha256, prompts, seen, len(prompts), notes, output)


def _read_kind(transformers: Any, name: str, asked: str) -> str:
    """'clip' or 'siglip'. Raises UserError for a folder or a hub name that holds anything else."""
    folder = Path(name)
    if (folder / "open_clip_config.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(f"{asked} is a folder of open_clip: take model=openclip")
    try:
        with mute_libraries():
            kind = str(transformers.AutoConfig.from_pretrained(name, **NO_CODE).model_type)
    except Exception as error:  # from the hub, or from a file
        raise UserError(
            f"{asked} could not be read ({error_line(error)}); give the name of a CLIP or SigLIP network on the hub, "
            "or a folder that save_pretrained() wrote, processor and tokenizer included"
        ) from error
    if kind not in KINDS:
        raise UserError(
            f"{asked} holds a network of kind {kind}, not clip or siglip; model=huggingface takes image classifiers"
        )
    return kind


def _check_tokenizer(tokenizer: Any, words: int, name: str, asked: str) -> None:
    """Raise UserError for a tokenizer of another network, and for the empty one that transformers makes of no files."""
    known = len(tokenizer)
    if not LEAST_WORDS * words <= known <= MOST_WORDS * words:
        raise UserError(
            f"{asked} has no tokenizer, or another network's: it knows {known:,} tokens, the network {words:,}; save "
            f"its own beside it: transformers.AutoTokenizer.from_pretrained(NAME).save_pretrained({name!r})"
        )


@torch.no_grad()
def _encode_prompts(network: Any, tokenizer: Any, prompts: tuple[str, ...], kind: str) -> Tensor:
    """The prompts' embeddings, (P, D), padded as the network was trained. Raises UserError for one that is too long."""
    most = network.config.text_config.max_position_embeddings
    for prompt, ids in zip(prompts, tokenizer(list(prompts))["input_ids"], strict=True):
        if len(ids) > most:
            refuse_long_prompt(prompt, most)
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": most}
    texts = tokenizer(list(prompts), return_tensors="pt", **padding)
    pooled: Tensor = network.text_model(**texts).pooler_output  # (P, F)
    return network.text_projection(pooled) if kind == "clip" else pooled


def _name_weights(asked: str, name: str, model: nn.Module) -> tuple[str, str | None]:
    """What a report calls the weights, and their hash; the prompts are part of a network that came from no file."""
    if asked == "none":
        return "none", None
    if asked == "default":
        return name, hash_state(model)
    path = expand_path(asked)
    return str(path), hash_file(path)
