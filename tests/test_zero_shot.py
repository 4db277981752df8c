"""model=clip and model=openclip: the probabilities of the prompts are those of the library, computed slowly."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import photograph
from omegaconf import OmegaConf
from prompted import LENGTH, PROMPTS, register_openclip, write_clip, write_openclip, write_siglip
from torchvision.transforms import functional as F

from spade_cli import interpretation
from spade_cli.cli import main
from spade_cli.cli.config.compose import compose_config
from spade_cli.cli.config.model import model_source
from spade_cli.cli.config.typed_words import quote
from spade_cli.errors import UserError
from spade_cli.images.load import read_image
from spade_cli.interpretation import explainable
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.networks.scores import Output
from spade_cli.pruning import find_layers
from spade_cli.pruning.blocks import blocks, body

WRITERS = {"clip": write_clip, "siglip": write_siglip}


def load(name: object, library: str = "clip", prompts: Any = PROMPTS, **settings: Any) -> Classifier:
    return load_model(str(name), library=library, prompts=prompts, **settings)


def probabilities(made: Classifier, picture: Path) -> list[float]:
    view = made.preprocessing.normalise(made.preprocessing.view(read_image(str(picture))[0]))
    with torch.no_grad():
        return made.output.probabilities(made.model(view))[0].tolist()


def save_picture(folder: Path, size: tuple[int, int] = (32, 32)) -> Path:
    photograph(size).save(folder / "cat.png")
    return folder / "cat.png"


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_probabilities_are_those_of_the_librarys_pipeline(tmp_path, kind):
    """A picture of the network's own size is not resized, so that nothing may differ but rounding."""
    transformers = pytest.importorskip("transformers")
    WRITERS[kind](tmp_path / "net")
    picture = save_picture(tmp_path)
    ask = transformers.pipeline(
        "zero-shot-image-classification",
        model=transformers.AutoModel.from_pretrained(tmp_path / "net"),
        tokenizer=transformers.AutoTokenizer.from_pretrained(tmp_path / "net"),
        image_processor=transformers.AutoImageProcessor.from_pretrained(tmp_path / "net"),
    )
    answer = ask(str(picture), candidate_labels=list(PROMPTS), hypothesis_template="{}")
    expected = {one["label"]: one["score"] for one in answer}
    made = load(tmp_path / "net")
    assert made.labels == PROMPTS and made.output is {"clip": Output.SOFTMAX, "siglip": Output.SIGMOID}[kind]
    found = probabilities(made, picture)
    assert found == pytest.approx([expected[prompt] for prompt in PROMPTS], abs=1e-5)
    assert max(found) - min(found) > 0.01  # the prompts do differ


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pictures_of_any_size_are_seen_as_the_processor_shows_them(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    WRITERS[kind](tmp_path / "net")
    picture = photograph((90, 60))
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path / "net")(picture, return_tensors="pt")
    own = load(tmp_path / "net").preprocessing
    seen = own.normalise(own.view(F.pil_to_tensor(picture)))
    levels = 255 * torch.tensor(own.std)[:, None, None] * (seen - theirs.pixel_values)
    assert levels.abs().max() < 1.5  # resizing may round one level differently


@pytest.mark.parametrize("bias", [None, -2.0])
def test_openclips_probabilities_are_its_own(tmp_path, bias):
    open_clip = pytest.importorskip("open_clip")
    settings = {} if bias is None else {"init_logit_bias": bias}
    network = write_openclip(tmp_path / "net", **settings)
    picture = save_picture(tmp_path, (90, 60))
    theirs = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(network)), is_train=False
    )
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'net'}")(list(PROMPTS))
    made = load(tmp_path / "net", "openclip")
    with torch.no_grad():
        seen = theirs(photograph((90, 60)))[None]
        logits, _ = network.get_logits(seen, tokens)
        assert torch.allclose(made.model(seen), logits, atol=1e-4)
    assert made.output is (Output.SOFTMAX if bias is None else Output.SIGMOID)
    own = made.preprocessing.normalise(made.preprocessing.view(F.pil_to_tensor(photograph((90, 60)))))
    assert (255 * 0.25 * (own - seen)).abs().max() < 1.5
    assert probabilities(made, picture) == pytest.approx(made.output.probabilities(logits)[0].tolist(), abs=2e-2)


def test_openclips_weights_come_from_a_file_or_are_drawn(tmp_path, monkeypatch):
    register_openclip("tiny", monkeypatch)
    network = write_openclip(tmp_path / "net", seed=3)
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "w.pt"
    )
    from_file = load("tiny", "openclip", weights=str(tmp_path / "w.pt"))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = load(tmp_path / "net", "openclip").model(x)
        assert torch.allclose(from_file.model(x), same, atol=1e-5)
    assert from_file.weights.endswith("w.pt") and len(from_file.sha256) == 64
    drawn, again = (load("tiny", "openclip", weights="none").model.state_dict() for _ in range(2))
    assert all(torch.equal(value, again[key]) for key, value in drawn.items())


@pytest.mark.parametrize("library", ["clip", "openclip"])
def test_the_head_is_the_prompts_and_everything_else_can_be_pruned(tmp_path, library):
    (write_clip if library == "clip" else write_openclip)(tmp_path / "net")
    made = load(tmp_path / "net", library)
    layers = find_layers(made.model, made.grey())
    found = {layer.name: layer.reason for layer in layers}
    assert all(layer.supported for layer in layers) and found["projection"] is None
    assert blocks(layers)["prompts"] == ("prompts",) and next(iter(body(layers))) == "projection"
    assert [name for name, reason in found.items() if reason is not None] == [layers[0].name]  # the stem
    assert made.model.prompts.weight.shape[0] == len(PROMPTS)


def test_openclips_maps_hold_and_transformers_gradients_are_exact(tmp_path):
    write_openclip(tmp_path / "openclip")
    made = load(tmp_path / "openclip", "openclip")
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = explainable(made.model, x)
    assert network.reason is None and network.feature_map is not None
    assert interpretation.lrp(network, x, 1).checks["conservation"] == pytest.approx(1, abs=1e-3)
    assert interpretation.METHODS["gradient_rollout"](network, x, 1).map.abs().max() > 0
    write_clip(tmp_path / "clip")
    made = load(tmp_path / "clip")
    leaf = x.clone().requires_grad_()
    made.model(leaf)[0, 1].backward()
    assert torch.allclose(interpretation.saliency(explainable(made.model, x), x, 1).map, leaf.grad[0].abs(), atol=1e-6)


@pytest.mark.parametrize("library", ["clip", "openclip"])
def test_a_run_makes_a_trace_two_maps_and_a_visualization(tmp_path, monkeypatch, capsys, library):
    monkeypatch.chdir(tmp_path)
    (write_clip if library == "clip" else write_openclip)(tmp_path / "net")
    save_picture(tmp_path)
    words = [
        *("run", "image=cat.png", f"model={library}", "model.name=./net", "out=run", "device=cpu"),
        "model.prompts=[a photo of a cat,a photo of a dog]",
        *("augmentation.samples=4", "schedule=late", "schedule.last=0.5", "pruner.sparsity=0.5", "interpreter=all"),
        *("interpreter.methods=[saliency,input_x_gradient]", "interpreter.steps=2", "interpreter.smoothing.samples=1"),
    ]
    assert main(words) == 0, capsys.readouterr().err
    summary = json.loads(next((tmp_path / "run").rglob("summary.json")).read_text(encoding="utf-8"))
    assert summary["prediction"]["dense"]["label"] in ("a photo of a cat", "a photo of a dog")
    pruned = [layer["name"] for layer in summary["layers"] if layer["left"] is None]
    assert "projection" in pruned and "prompts" not in pruned
    assert {one["method"] for one in summary["saliency"]} == {"saliency", "input_x_gradient"} and not summary["skipped"]
    assert summary["visualizations"]


def test_prompts_that_make_no_sense_are_refused(tmp_path):
    write_clip(tmp_path / "clip")
    write_siglip(tmp_path / "siglip")
    refused = {
        r"needs texts to choose from: add 'model.prompts": None,
        r"number 2 is empty": ["a cat", " "],
        r"'a cat' is there twice": ["a cat", "a cat "],
        r"'a cat' alone.*the softmax of one is always 1": ["a cat"],
        rf"is longer than the {LENGTH} tokens": ["a dog", "a cat on the green sofa of a dog"],
    }
    for message, prompts in refused.items():
        with pytest.raises(UserError, match=message.replace("model.", "")) as caught:
            load(tmp_path / "clip", prompts=prompts)
        assert "\n" not in str(caught.value)
    assert load(tmp_path / "siglip", prompts=["a cat"]).output is Output.SIGMOID  # each prompt is judged alone
    with pytest.raises(UserError, match="only says which prompt fits better"):
        load(tmp_path / "clip", output="sigmoid")
    with pytest.raises(UserError, match="is one text; give a list"):
        load(tmp_path / "clip", prompts="a cat")
    with pytest.raises(UserError, match="has classes of its own"):
        load_model(ModelSource("resnet18", weights="none", size=32, prompts=PROMPTS))
    with pytest.raises(UserError, match=r"model.prompts=\[\] is not a list of texts"):
        model_source({"name": "x", "library": "clip", "weights": "none", "prompts": []})


def test_openclips_long_prompts_are_refused(tmp_path):
    write_openclip(tmp_path / "net")
    with pytest.raises(UserError, match="is longer than the 77 tokens"):
        load(tmp_path / "net", "openclip", prompts=["a dog", "cat " * 76])
    assert load(tmp_path / "net", "openclip", prompts=["a dog", "cat " * 75]).classes == 2


def test_folders_that_lack_something_are_refused(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    write_clip(tmp_path / "net")
    for file in (tmp_path / "net").glob("*token*"):
        file.unlink()
    write_openclip(tmp_path / "openclip")
    (tmp_path / "openclip" / "open_clip_pytorch_model.bin").unlink()
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    config.save_pretrained(tmp_path / "vit")
    register_openclip("tiny", monkeypatch)
    refused = [
        ("clip", tmp_path / "net", "has no tokenizer"),
        ("clip", tmp_path / "vit", "of kind vit, not clip or siglip; model=huggingface"),
        ("clip", tmp_path / "nowhere", "could not be read"),
        ("clip", tmp_path / "openclip", "is a folder of open_clip: take model=openclip"),
        ("openclip", tmp_path / "net", "is a folder of transformers: take model=clip"),
        ("openclip", tmp_path / "openclip", "could not be loaded"),
        ("openclip", "ViT-B-33", "is no network of open_clip; close: ViT-B-32"),
        ("openclip", "ViT-B-32", r"does not say which weights: give weights=TAG \(openai, "),
        ("openclip", "tiny", r"does not say which weights: give weights=TAG \(it has none\) or PATH"),
    ]
    for library, name, message in refused:
        with pytest.raises(UserError, match=message) as caught:
            load(name, library)
        assert "\n" not in str(caught.value), message
    with pytest.raises(UserError, match="weights=nowhere is no file and no weights of tiny; it has no tags"):
        load("tiny", "openclip", weights="nowhere")


def test_weights_that_a_folder_lacks_are_not_drawn_silently(tmp_path):
    """transformers only warns: a network that was never trained to classify would get a random head."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no weights for classifier.bias, classifier.weight, so its answers would"):
        load_model(ModelSource(str(tmp_path), library="huggingface"))
    assert load_model(ModelSource(str(tmp_path), weights="none", library="huggingface")).classes == 2


@pytest.mark.parametrize(
    ("typed", "prompts"),
    [
        ("[a cat,a dog]", ("a cat", "a dog")),
        ("[a cat , a dog]", ("a cat", "a dog")),
        ("['a cat, asleep',\"a dog\",1]", ("a cat, asleep", "a dog", "1")),
        ("[a dog's ball,(no animal): ${x}=é]", ("a dog's ball", "(no animal): ${x}=é")),
        ("[]", None),
    ],
)
def test_prompts_are_typed_as_they_are_said(typed, prompts):
    config, choices = compose_config("run", [quote(f"model.prompts={typed}"), "image=cat.jpg", "model=clip"], [])
    model = OmegaConf.to_container(config, resolve=True)["model"]
    if prompts is None:
        with pytest.raises(UserError, match="is not a list of texts"):
            model_source(model, choices["model"])
        return
    source = model_source(model, choices["model"])
    assert source.prompts == prompts and source.name == "openai/clip-vit-base-patch32"


def test_lines_do_not_come_twice_because_a_library_logs(tmp_path, monkeypatch):
    write_openclip(tmp_path / "net")
    monkeypatch.setattr(logging.root, "handlers", [])
    load(tmp_path / "net", "openclip")
    assert logging.root.handlers == []


@pytest.mark.parametrize(("library", "package"), [("clip", "transformers"), ("openclip", "open_clip")])
def test_a_missing_package_is_one_line(monkeypatch, library, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=rf"model={library} needs {package}, .*pip install 'spade-cli\[clip\]'"
    ) as caught:
        load("ViT-B-32", library)
    assert "\n" not in str(caught.value)
