"""timm and Hugging Face: their networks, preprocessing and labels; what is not installed or not there is one line."""

import pytest
import torch
from torch import nn
from torchvision.transforms import functional as F

from spade_cli import interpretation
from spade_cli.errors import UserError
from spade_cli.interpretation import CannotExplain, explainable
from spade_cli.models import ModelSource, huggingface, load_model
from spade_cli.models.build import import_library
from spade_cli.models.timm import _read_preprocessing
from spade_cli.pruning import collect, find_layers, prune
from spade_cli.pruning.solvers.sparsegpt import sparsegpt


def test_what_is_not_installed_says_how_to_install_it():
    with pytest.raises(UserError, match=r"model=x needs no_such_library.*pip install 'spade-cli\[extra\]'"):
        import_library("no_such_library", "model=x", "extra")
    with pytest.raises(
        UserError, match=r"model.library=keras is unknown; there are torchvision, timm, huggingface, clip, openclip"
    ):
        load_model(ModelSource("resnet18", library="keras"))


def test_torchvisions_vision_transformer_takes_another_size():
    classifier = load_model(ModelSource("vit_b_32", weights="none", size=64))
    assert classifier.preprocessing.size == 64 and classifier.model.encoder.pos_embedding.shape[1] == 5


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


@pytest.mark.parametrize(("name", "size", "seen"), [("resnet10t", None, 176), ("vit_tiny_patch16_224", 64, 64)])
def test_timms_networks_bring_their_preprocessing(timm, name, size, seen):
    made = load_model(ModelSource(name, weights="none", size=size, library="timm"))
    wanted = timm.get_pretrained_cfg(name)
    own = made.preprocessing
    assert (own.size, own.mean, own.std) == (seen, wanted.mean, wanted.std)
    assert own.resize == pytest.approx(seen / wanted.crop_pct, abs=1)
    assert (made.classes, made.label(1), made.weights, made.sha256) == (1000, "goldfish", "none", None)
    layers = find_layers(made.model, made.grey())
    assert all(layer.supported for layer in layers)


def test_timms_checkpoints_say_how_many_classes(timm, tmp_path):
    state = timm.create_model("resnet10t", num_classes=7).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    made = load_model(ModelSource("timm/resnet10t", weights=str(tmp_path / "mine.pth"), library="timm"))
    assert made.classes == 7 and made.labels is None
    assert all(torch.equal(value, state[key]) for key, value in made.model.state_dict().items())


def test_timms_unknown_names_are_refused(timm):
    with pytest.raises(UserError, match=r"model.name=resnet1818 is no network of timm; close: resnet18"):
        load_model(ModelSource("resnet1818", library="timm"))


def test_timms_padding_convolutions_are_pruned_and_explained(timm):
    """tf_efficientnet pads by the picture's size, which torch.fx cannot follow unless the layer is left whole."""
    made = load_model(ModelSource("tf_efficientnet_b0", weights="none", size=64, library="timm"))
    safe = explainable(made.model, torch.randn(1, 3, 64, 64))
    assert safe.reason is None and safe.feature_map is not None
    with torch.no_grad():
        other = torch.randn(2, 3, 64, 64)
        assert torch.allclose(safe.model(other), made.model(other), atol=1e-5)


@pytest.fixture
def folder(tmp_path):
    """A small vision transformer as save_pretrained() writes it, labels and processor included."""
    transformers = pytest.importorskip("transformers")
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    labels = {0: "cat", 1: "dog", 2: "spade"}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, id2label=labels, num_labels=3)
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(config)
    network.save_pretrained(tmp_path / "vit")
    processor = transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.4] * 3, image_std=[0.2] * 3
    )
    processor.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", network.eval()


def test_hugging_faces_classifiers(folder):
    path, network = folder
    made = load_model(ModelSource(str(path), library="huggingface"))
    own = made.preprocessing
    assert (own.size, own.mean, own.std, made.labels) == (32, (0.4,) * 3, (0.2,) * 3, ("cat", "dog", "spade"))
    assert made.notes == ()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(made.model(x), network(pixel_values=x).logits, atol=1e-6)
    layers = find_layers(made.model, made.grey())
    names = [layer.name for layer in layers if layer.reason is None]
    assert len(names) == 13 and all(layer.supported for layer in layers)
    trace = prune(made.model, layers, dict.fromkeys(names, 0.5), collect(made.model, [x], names, samples=2), sparsegpt)
    assert all(record.left is None for record in trace.layers[1:])
    safe = explainable(made.model, x[:1])
    assert interpretation.saliency(safe, x[:1], 1).map.abs().max() > 0
    if safe.reason is not None:
        with pytest.raises(CannotExplain, match="rewritten copy"):
            interpretation.lrp(safe, x[:1], 1)


def test_hugging_faces_untrained_and_missing(folder, tmp_path):
    path, _ = folder
    made = load_model(ModelSource(str(path), weights="none", library="huggingface"), seed=1)
    same = load_model(ModelSource(str(path), weights="none", library="huggingface"), seed=1)
    assert made.sha256 is None and made.weights == "none"
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), same.model.parameters(), strict=True))
    with pytest.raises(UserError, match="could not be loaded") as caught:
        load_model(ModelSource(str(tmp_path / "nowhere"), library="huggingface"))
    assert "\n" not in str(caught.value) and isinstance(made.model, nn.Module)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("height", "width"), [(300, 200), (90, 240), (128, 128)])
@pytest.mark.parametrize("size", [(96, 96), (64, 96), (112, 48)])
def test_timms_preprocessing_pixel_by_pixel(timm, mode, height, width, size):
    """What the network sees is what timm's own transform shows it; resizing may round one level differently."""
    config = dict(input_size=(3, *size), crop_pct=0.9, crop_mode=mode, interpolation="bicubic")
    config |= dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    network = timm.create_model("resnet10t", pretrained=False, pretrained_cfg_overlay=config)
    own = _read_preprocessing(timm, network)
    pixels = torch.randint(0, 256, (3, height // 10, width // 10), generator=torch.Generator().manual_seed(0))
    image = F.resize(pixels.byte(), [height, width], antialias=True)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(network))(F.to_pil_image(image))
    levels = 255 * torch.tensor(own.std)[:, None, None] * (own.normalise(own.view(image))[0] - theirs)
    assert own.fit == {"center": "crop"}.get(mode, mode) and own.sides == size and levels.abs().max() < 1.5


@pytest.mark.parametrize(
    "settings",
    [
        dict(size={"height": 64, "width": 64}),
        dict(size={"height": 48, "width": 80}),
        dict(size={"shortest_edge": 72}, do_center_crop=True, crop_size={"height": 48, "width": 64}),
        dict(size={"height": 48, "width": 80}, do_center_crop=True, crop_size={"height": 40, "width": 64}, resample=3),
        dict(size={"shortest_edge": 72}, do_center_crop=True, crop_size={"height": 64, "width": 64}),
        dict(size={"height": 72, "width": 72}, do_center_crop=True, crop_size={"height": 64, "width": 64}, resample=3),
    ],
)
def test_hugging_faces_preprocessing_pixel_by_pixel(settings):
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(**{"do_center_crop": False, **settings}, do_convert_rgb=True)
    own = huggingface.read_preprocessing(processor.to_dict(), "mine")
    pixels = torch.randint(0, 256, (3, 15, 10), generator=torch.Generator().manual_seed(0))
    image = F.resize(pixels.byte(), [150, 100], antialias=True)
    theirs = processor(F.to_pil_image(image), return_tensors="pt").pixel_values[0]
    levels = 255 * torch.tensor(own.std)[:, None, None] * (own.normalise(own.view(image))[0] - theirs)
    assert levels.abs().max() < 1.5


def test_sides_of_their_own():
    """A processor without a width shows squares; what is seen of a shorter side has no border."""
    own = huggingface.read_preprocessing({"size": {"height": 64, "width": 32}}, "mine")
    assert (own.size, own.resize, own.fit) == ((64, 32), (64, 32), "squash")
    assert huggingface.read_preprocessing({"size": {"height": 64}}, "mine").size == 64
    with pytest.raises(UserError, match="names no size"):
        huggingface.read_preprocessing({"size": {"width": 64}}, "mine")


def test_vision_transformers_of_pictures_that_are_not_square(timm, folder):
    made = load_model(ModelSource("vit_tiny_patch16_224", weights="none", size=(48, 80), library="timm"))
    assert made.preprocessing.size == (48, 80) and made.model(torch.randn(2, 3, 48, 80)).shape == (2, 1000)
    with pytest.raises(UserError, match="does not take a picture of 3 x 32 x 48") as caught:
        load_model(ModelSource(str(folder[0]), library="huggingface", size=(32, 48)))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"model.size=\[64,96\]: vit_b_32 of torchvision sees squares only"):
        load_model(ModelSource("vit_b_32", weights="none", size=(64, 96)))
