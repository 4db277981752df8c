"""Weights in all the forms that users bring: found in their container, behind their prefix, and no code is run."""

import argparse
import collections
import contextlib
import datetime
import pathlib
import pickle
import shlex
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from networks import small
from safetensors.torch import save_file
from torch import nn

from spade_cli.errors import UserError
from spade_cli.models import ModelSource, load_model
from spade_cli.models.checkpoints import load_weights, read_state_dict

RAN = Path("ran")  # a file that code in a checkpoint would make
State = dict[str, torch.Tensor]


def other(seed: int = 7) -> State:
    """Weights of `small` that differ from its own."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for key, value in small().state_dict().items()
    }


def behind(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def read(content: Any, folder: Path, name: str = "w.ckpt") -> tuple[State, tuple[str, ...]]:
    """What a network gets of a file with this content, and the notes."""
    torch.save(content, folder / name)
    return loaded(folder / name)


def loaded(path: Path) -> tuple[State, tuple[str, ...]]:
    network = small()
    state, notes = read_state_dict(path, network)
    load_weights(network, state, "weights", "small")
    return network.state_dict(), notes


def same(found: State, wanted: State) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def refused(content: Any, folder: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        read(content, folder)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    return message


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
    _, (note, _) = read({"state_dict": {**more, **behind("model.", other())}, "ema": other(2)}, tmp_path)
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
        *(("state_dict", "state_dict_ema"), ("something", "ema_model"), ("model", "model_ema"), ("net", "ema")),
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
    assert same(found, other(1)) and "schema was taken" in note


def test_sets_between_which_nothing_decides_are_refused(tmp_path: Path) -> None:
    refused({"student": other(1), "teacher": other(2)}, tmp_path, "(student, teacher)", "save the one to explain")
    refused({**behind("a.", other(1)), **behind("b.", other(2))}, tmp_path, "(a, b)")


def test_shapes_decide_between_sets_of_the_same_names(tmp_path: Path) -> None:
    wider = {key: value.repeat(2, *[1] * (value.dim() - 1)) if value.dim() else value for key, value in other().items()}
    found, notes = read({"teacher": wider, "student": other()}, tmp_path)
    assert same(found, other()) and notes == ()


THINGS = {
    "namespace": argparse.Namespace(lr=0.1, data=Path("a/b"), best=np.float64(3), nested=argparse.Namespace(a=1)),
    "simple": types.SimpleNamespace(a=1),
    "numpy scalars": [np.float64(1), np.float32(1), np.float16(1), np.int64(3), np.bool_(True), np.str_("a")],
    "numpy arrays": {"confusion": np.ones((3, 3)), "random": np.random.get_state()},
    "dtypes": [np.dtype("f4"), torch.float32, torch.device("cpu"), torch.Size([1])],
    "dates": [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "version": torch.__version__,
    "path": pathlib.Path("a"),
}


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("new", [True, False])
def test_harmless_things_beside_the_weights(tmp_path: Path, thing: str, new: bool) -> None:
    content = {"args": THINGS[thing], "state_dict": other(), "best": THINGS[thing]}
    torch.save(content, tmp_path / "w.ckpt", _use_new_zipfile_serialization=new)
    found, notes = loaded(tmp_path / "w.ckpt")
    assert same(found, other()) and notes == ()


def test_numbers_among_the_weights_are_left(tmp_path: Path) -> None:
    found, notes = read({**other(), "epoch": 3, "name": "mine", "best": np.float64(0.5)}, tmp_path)
    assert same(found, other()) and notes == ()


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (RAN,)


@pytest.mark.parametrize("kind", ["beside", "namespace", "array", "defaultdict", "weights"])
@pytest.mark.parametrize("save", ["new", "old", "pickle"])
def test_no_code_runs_in_whatever_it_is_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, save: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = {
        "beside": {"state_dict": other(), "callback": Malicious()},
        "namespace": {"state_dict": other(), "args": argparse.Namespace(a=Malicious())},
        "array": {"state_dict": other(), "a": np.array([Malicious()], dtype=object)},
        "defaultdict": {"state_dict": other(), "a": collections.defaultdict(list, {"a": Malicious()})},
        "weights": Malicious(),
    }[kind]
    if save == "pickle":
        Path("w.ckpt").write_bytes(pickle.dumps(bad))
    else:
        torch.save(bad, "w.ckpt", _use_new_zipfile_serialization=save == "new")
    with pytest.raises(UserError, match=r"could run code.*was not opened") as caught:
        loaded(Path("w.ckpt"))
    assert not RAN.exists() and "\n" not in str(caught.value)


class Settings:
    """A class of the user's, which only his own program can make."""


def _with(content: Any, key: str, value: Any) -> Any:
    content[key] = value
    return content


CONVERTED = {
    "a network": lambda network: network,
    "a network in a container": lambda network: {"epoch": 3, "model": network},
    "weights beside an object": lambda network: {"settings": Settings(), "state_dict": network.state_dict()},
    "weights in a container of another name": lambda network: {"mine": network.state_dict(), "settings": Settings()},
    "weights among objects": lambda network: {**network.state_dict(), "settings": Settings()},
    "a state dict with an object": lambda network: _with(network.state_dict(), "settings", Settings()),
    "a network and its settings": lambda network: {"settings": Settings(), "net": network},
}


@pytest.mark.parametrize("kind", CONVERTED)
@pytest.mark.parametrize("save", ["new", "old", "pickle"])
@pytest.mark.filterwarnings("ignore")
def test_the_line_that_converts_a_file_does(tmp_path: Path, kind: str, save: str) -> None:
    network = small()
    network.load_state_dict(other())
    path = tmp_path / "w $1.pth"
    content = CONVERTED[kind](network)
    if save == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=save == "new")
    with pytest.raises(UserError, match=r"could run code.*if you trust it") as caught:
        loaded(path)
    _run_line(str(caught.value))
    assert same(loaded(tmp_path / "w $1-weights.pth")[0], other())


def _run_line(message: str) -> None:
    """What `python -c` would do with the end of an error, as a shell reads it."""
    words = shlex.split(message[message.index("python -c") :])
    assert words[:2] == ["python", "-c"] and len(words) == 3
    exec(words[2], {})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["w.npz", "w.ckpt"])
def test_numpys_files(tmp_path: Path, save: Any, name: str) -> None:
    arrays = {key: value.numpy() for key, value in behind("model.", other()).items()}
    arrays |= {"epoch": np.array(3), "names": np.array(["a", "b"])}
    with (tmp_path / name).open("wb") as file:
        save(file, **arrays)
    found, (note,) = loaded(tmp_path / name)
    assert same(found, other()) and "'model.'" in note and "epoch" in note


def test_arrays_of_other_machines_and_precisions(tmp_path: Path) -> None:
    arrays = {key: value.numpy() for key, value in other().items()}
    arrays = {key: value.astype(">f8") if value.dtype == np.float32 else value for key, value in arrays.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    assert same(loaded(tmp_path / "w.npz")[0], other())
    found, _ = read({"state_dict": {key: value.numpy() for key, value in other().items()}}, tmp_path)
    assert same(found, other())


def test_numpys_files_with_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = {key: value.numpy() for key, value in other().items()}
    np.savez(tmp_path / "w.npz", **arrays, bad=np.array([Malicious()], dtype=object))
    with pytest.raises(UserError, match="could run code") as caught:
        loaded(tmp_path / "w.npz")
    assert not RAN.exists()
    _run_line(str(caught.value))
    assert same(loaded(tmp_path / "w-weights.npz")[0], other())


def test_a_file_is_known_by_what_it_holds(tmp_path: Path) -> None:
    save_file(other(), tmp_path / "w.bin")
    assert same(loaded(tmp_path / "w.bin")[0], other())
    for name, content, word in (
        ("cut.npz", b"PK\x03\x04abc", "not an .npz file"),
        ("text.bin", b"hello", "not a checkpoint that torch can read"),
        ("cut.bin", b"\x80\x02}q\x00X", "truncated"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=word):
            loaded(tmp_path / name)


@pytest.mark.parametrize("kind", ["new", "old", "npz", "safetensors", "pickle"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("w.npz" if kind == "npz" else "w.bin")
    if kind == "npz":
        np.savez(path, **{key: value.numpy() for key, value in other().items()})
    elif kind == "safetensors":
        save_file(other(), path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(small()))
    else:
        torch.save({"state_dict": other()}, path, _use_new_zipfile_serialization=kind == "new")
    whole = path.read_bytes()
    dice = np.random.default_rng(0)
    for size in (*range(1, 12), *dice.integers(12, len(whole), 30).tolist()):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError) as caught:
            loaded(path)
        assert "\n" not in str(caught.value)
    for place in dice.integers(0, len(whole), 60).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ int(dice.integers(1, 256))]) + whole[place + 1 :])
        with contextlib.suppress(UserError):  # a changed value may be read
            loaded(path)


@pytest.mark.filterwarnings("ignore")
def test_programs_say_how_their_weights_are_taken_out(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    torch.jit.save(torch.jit.script(network), str(tmp_path / "w.pt"))
    torch.export.save(torch.export.export(network, (torch.zeros(1, 4),)), tmp_path / "w.pt2")
    for name, word in (("w.pt", "TorchScript"), ("w.pt2", "exported program")):
        with pytest.raises(UserError, match=word) as caught:
            read_state_dict(tmp_path / name, network)
        _run_line(str(caught.value))
        state, _ = read_state_dict(tmp_path / "w-weights.pth", network)
        assert same(state, network.state_dict())
        (tmp_path / "w-weights.pth").unlink()


def test_files_without_weights_say_what_they_hold(tmp_path: Path) -> None:
    refused({"lr": 0.1, "epochs": [1, 2]}, tmp_path, "holds 'lr', 'epochs' and no weights", "save model.state_dict()")
    refused([1, 2], tmp_path, "an object of type list")
    refused({}, tmp_path, "holds nothing")
    refused({"model.": {"a": torch.tensor([float("nan")])}}, tmp_path, "a holds values that are not finite")


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
