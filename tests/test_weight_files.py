"""Files of weights in all forms that users bring: no code in them is run, and refusals say what to do."""

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
from networks import small
from safetensors.torch import save_file
from torch import nn
from weights import RAN, behind, loaded, other, read, refused, same

from spade_cli.errors import UserError
from spade_cli.models.checkpoints import read_state_dict

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
