"""Weights within a file: found in their container and behind their prefix, and what was assumed is noted."""

from pathlib import Path

import pytest
import torch
import torchvision
from networks import small
from weights import behind, other, read, refused, same

from spade_cli.errors import UserError
from spade_cli.models import ModelSource, load_model
from spade_cli.models.checkpoints import read_state_dict


@pytest.mark.parametrize("prefix", ["model.", "net.", "lit.backbone.", "model.module.", "model._orig_mod."])
def test_one_common_prefix_is_taken_off_and_said(tmp_path: Path, prefix: str) -> None:
    found, (note,) = read({"epoch": 3, "state_dict": behind(prefix, other())}, tmp_path)
    assert same(found, other())
    assert repr(prefix.replace("_orig_mod.", "")) in note and "w.ckpt" in note and "left out" not in note


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module.module.", "_orig_mod.module."])
def test_what_wrappers_write_is_taken_off_silently(tmp_path: Path, prefix: str) -> None:
    found, notes = read(behind(prefix, other()), tmp_path)
    assert same(found, other()) and notes == ()


def test_compiled_parts_have_their_plain_names(tmp_path: Path) -> None:
    found, notes = read({key.replace("conv1.", "conv1._orig_mod."): value for key, value in other().items()}, tmp_path)
    assert same(found, other()) and notes == ()
    network = small()
    network.conv1 = torch.nn.DataParallel(network.conv1)  # a name that belongs to the network stays
    torch.save(network.state_dict(), tmp_path / "inner.pth")
    state, notes = read_state_dict(tmp_path / "inner.pth", network)
    assert "conv1.module.weight" in state and notes == ()


def test_what_lies_beside_the_prefix_is_left_out_and_said(tmp_path: Path) -> None:
    more = {f"criterion.{i}": torch.zeros(2) for i in range(5)}
    found, (note,) = read({"state_dict": {**more, **behind("model.", other())}}, tmp_path)
    assert same(found, other()) and "left out: criterion.0, criterion.1, criterion.2 and 2 more" in note
    _, (note, _) = read({"state_dict": {**more, **behind("model.", other())}, "net": other(2)}, tmp_path)
    assert "left out: criterion.0" in note
    _, (note,) = read({"n_averaged": torch.tensor(3), **behind("module.", other())}, tmp_path)  # AveragedModel's
    assert "left out: n_averaged" in note


def test_a_prefix_is_taken_off_only_where_the_rest_fits(tmp_path: Path) -> None:
    without = {key: value for key, value in other().items() if key != "stem.weight"}
    refused(behind("model.", without), tmp_path, "does not fit", "missing stem.weight;")
    refused({**behind("model.", other()), "model.extra": torch.zeros(1)}, tmp_path, "unexpected extra;")
    refused({**other(), "extra": torch.zeros(1)}, tmp_path, "unexpected extra;")
    few = {"a.stem.weight": torch.zeros(1), "b.weight": torch.zeros(1)}  # next to nothing fits: the file's own names
    refused(few, tmp_path, "unexpected a.stem.weight, b.weight")


@pytest.mark.parametrize("place", ["net", "network", "weights", "params", "model", "model_state_dict", "my own"])
def test_containers_of_any_name_are_found(tmp_path: Path, place: str) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    found, notes = read({"epoch": 3, "optimizer": optimizer, place: other()}, tmp_path)
    assert same(found, other()) and notes == ()
    found, notes = read({"checkpoint": {place: behind("module.", other())}, "loss": torch.zeros(2)}, tmp_path)
    assert same(found, other()) and notes == ()


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        *(("state_dict", "model"), ("model_state_dict", "model"), ("model", "net"), ("net", "something")),
        *(("state_dict_ema", "state_dict"), ("ema_model", "something"), ("model_ema", "model"), ("ema", "net")),
    ],
)
def test_of_several_sets_that_fit_the_usual_one_is_taken_and_said(tmp_path: Path, taken: str, left: str) -> None:
    for content in ({taken: other(1), left: other(2)}, {left: other(2), taken: other(1)}):
        found, (note,) = read(content, tmp_path)
        assert same(found, other(1)) and f"({left})" in note and f"{taken} was taken" in note
    prefixed = {**behind(f"{left}.", other(2)), **behind(f"{taken}.", other(1))}
    found, notes = read({"state_dict": prefixed}, tmp_path)
    assert same(found, other(1)) and repr(f"{taken}.") in notes[0] and f"state_dict.{left}" in notes[1]


@pytest.mark.parametrize("place", ["state_dict_ema", "model_ema", "ema", "ema_model"])
def test_averaged_weights_are_taken_where_nothing_else_is_there(tmp_path: Path, place: str) -> None:
    found, (note,) = read({place: other()}, tmp_path)
    assert same(found, other()) and place in note and "average" in note


def test_names_that_only_contain_the_letters_are_not_averages(tmp_path: Path) -> None:
    found, (note,) = read({"schema": other(1), "ema": other(2)}, tmp_path)
    assert same(found, other(2)) and "ema was taken, an average over the training; model.ema=false" in note
    assert same(read({"schema": other(1), "ema": other(2)}, tmp_path, ema=False)[0], other(1))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": other(1), "state_dict_ema": other(2)},  # timm
        {"epoch": 3, "state_dict": {**behind("model.", other(1)), **behind("ema_model.module.", other(2))}},
        {
            "model": behind("module.", other(1)),
            "model_ema": {"n_averaged": torch.tensor(3), **behind("module.", other(2))},
        },
        {  # Lightning's WeightAveraging
            "state_dict": behind("net.", other(2)),
            "current_model_state": behind("net.", other(1)),
            "averaging_state": {"n_averaged": torch.tensor(3)},
        },
    ],
    ids=["timm", "prefixes", "torchvision", "lightning"],
)
def test_averages_are_taken_or_left_as_asked(tmp_path: Path, content: dict[str, object]) -> None:
    """By default the average, as timm's load_checkpoint, Ultralytics and Lightning's own state_dict have it."""
    for ema, taken in ((None, 2), (True, 2), (False, 1)):
        found, notes = read(content, tmp_path, ema=ema)
        assert same(found, other(taken)), ema
        assert ("an average over the training; model.ema=false takes" in notes[-1]) == (taken == 2)


def test_weights_of_a_kind_that_is_not_there_are_refused(tmp_path: Path) -> None:
    for content, ema, what in (({"model": other()}, True, "an average"), ({"ema": other()}, False, "the last weights")):
        with pytest.raises(UserError, match=f"model.ema={str(ema).lower()}: .* holds no weights that are {what}"):
            read(content, tmp_path, ema=ema)


def test_every_source_of_networks_hands_the_choice_on(tmp_path: Path) -> None:
    torch.save({"model": other(1), "ema": other(2)}, tmp_path / "own.ckpt")
    for ema, taken in ((None, 2), (False, 1)):
        source = ModelSource(None, factory="networks:small", size=32, weights=str(tmp_path / "own.ckpt"), ema=ema)
        assert same(load_model(source).model.state_dict(), other(taken))
    network = torchvision.models.squeezenet1_1(num_classes=7)
    last = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    torch.save({"model": last, "ema": network.state_dict()}, tmp_path / "w.ckpt")
    made = load_model("squeezenet1_1", weights=str(tmp_path / "w.ckpt"), ema=True)
    assert same(made.model.state_dict(), network.state_dict())


def test_sets_between_which_nothing_decides_are_refused(tmp_path: Path) -> None:
    refused({"student": other(1), "teacher": other(2)}, tmp_path, "(student, teacher)", "save the one to explain")
    refused({**behind("a.", other(1)), **behind("b.", other(2))}, tmp_path, "(a, b)")


def test_shapes_decide_between_sets_of_the_same_names(tmp_path: Path) -> None:
    wider = {key: value.repeat(2, *[1] * (value.dim() - 1)) if value.dim() else value for key, value in other().items()}
    found, notes = read({"teacher": wider, "student": other()}, tmp_path)
    assert same(found, other()) and notes == ()


def test_densenets_published_names(tmp_path: Path) -> None:
    network = torchvision.models.DenseNet(4, (1, 1), 4, num_classes=3)
    state = network.state_dict()
    old = {key.replace("norm1", "norm.1").replace("conv2.", "conv.2."): value for key, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "w.pth")
    assert read_state_dict(tmp_path / "w.pth", network)[0].keys() == state.keys()


def test_notes_are_the_classifiers(tmp_path: Path) -> None:
    torch.save({"state_dict": behind("model.", other())}, tmp_path / "own.ckpt")
    made = load_model(ModelSource(None, factory="networks:small", size=32, weights=str(tmp_path / "own.ckpt")))
    assert "preprocessing assumed" in made.notes[0] and "'model.'" in made.notes[1]
    for name in ("squeezenet1_1", "googlenet"):  # with another number of classes; with branches for training
        settings = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {"num_classes": 7}
        network = torchvision.models.get_model(name, weights=None, **settings)
        torch.save({"state_dict": behind("net.", network.state_dict())}, tmp_path / "w.ckpt")
        made = load_model(ModelSource(name, weights=str(tmp_path / "w.ckpt")))
        assert "'net.'" in made.notes[0] and made.classes == settings.get("num_classes", 1000)
        assert all(torch.equal(value, network.state_dict()[key]) for key, value in made.model.state_dict().items())


def test_notes_of_timms_networks(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet10t", num_classes=7)
    torch.save({"state_dict": behind("model.", network.state_dict())}, tmp_path / "w.ckpt")
    made = load_model(ModelSource("resnet10t", weights=str(tmp_path / "w.ckpt"), library="timm"))
    assert "'model.'" in made.notes[0] and made.classes == 7


def test_notes_of_hugging_faces_networks(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=32, patch_size=8))
    network.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    torch.save({"state_dict": behind("model.", network.state_dict())}, tmp_path / "w.ckpt")
    source = ModelSource(str(tmp_path / "vit"), weights=str(tmp_path / "w.ckpt"), library="huggingface")
    assert "'model.'" in load_model(source).notes[0]
