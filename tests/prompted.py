"""Small random CLIP and SigLIP networks with tokenizers, as their libraries write and build them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

# CLIP takes the largest token for the last one.
WORDS = ("a", "photo", "of", "cat", "dog", "bird", "two", "the", "on", "green", "sofa", "<s>", "<pad>", "<unk>", "</s>")
LENGTH, SIGLIP_LENGTH = 8, 64  # tokens that the small text encoders read; the pipeline knows SigLIP's 64 alone
PROMPTS = ("a photo of a cat", "a photo of a dog", "two birds")
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = SIZES | {"image_size": 32, "patch_size": 8}
TINY = {  # an open_clip network, as its model_configs have it
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of few words, as save_pretrained() writes it."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    ids = {word: place for place, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [(word, ids[word]) for word in ("<s>", "</s>")]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    wrapped.save_pretrained(folder)


def write_clip(folder: Path) -> Any:
    """A CLIP network of transformers with its processor and tokenizer; returns the network."""
    transformers = pytest.importorskip("transformers")
    end = WORDS.index("</s>")
    text = SIZES | {"vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "eos_token_id": end}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.4] * 3
    )
    return _write(folder, transformers.CLIPModel, config, processor)


def write_siglip(folder: Path) -> Any:
    """A SigLIP network of transformers with its processor and tokenizer; returns the network."""
    transformers = pytest.importorskip("transformers")
    text = SIZES | {"vocab_size": len(WORDS), "max_position_embeddings": SIGLIP_LENGTH}
    config = transformers.SiglipConfig(text_config=text, vision_config=VISION)
    processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    return _write(folder, transformers.SiglipModel, config, processor)


def _write(folder: Path, kind: Any, config: Any, processor: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(config).eval()
        for parameter in network.parameters():  # as fresh weights are, every picture and text would look the same
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    if hasattr(network, "logit_bias"):  # as trained: a fresh scale and bias leave every probability at 0.5
        network.logit_scale.data.fill_(1.0)
        network.logit_bias.data.fill_(-0.5)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_tokenizer(folder)
    return network


def register_openclip(name: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Make open_clip know a small network by this name, for one test."""
    factory = pytest.importorskip("open_clip.factory")
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, json.loads(json.dumps(TINY | settings)))


def write_openclip(folder: Path, seed: int = 0, **settings: Any) -> Any:
    """A network of open_clip as a folder with its configuration and weights; returns the network."""
    open_clip = pytest.importorskip("open_clip")
    preprocess = {"mean": [0.4] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    folder.mkdir(exist_ok=True)
    content = {"model_cfg": TINY | settings, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    return network
