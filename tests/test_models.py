"""Classifiers: how checkpoints are read, what is refused, labels, and the picture the network sees."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from spade_cli.errors import UserError
from spade_cli.models import ModelSource, Preprocessing, load_model, wrap
from spade_cli.models.checkpoints import load_weights, read_state_dict

NAME = "squeezenet1_1"  # the smallest of torchvision's
RAN = Path("ran")  # a file that a malicious pickle would make


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))


def built() -> nn.Module:
    """A factory, as a user would write it."""
    network = tiny()
    network(torch.zeros(2, 3, 8, 8))
    return network


def words() -> str:
    """A factory that returns no network."""
    return "network"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return load_model(ModelSource(NAME, weights="none"), seed=3).model.state_dict()


def refused(source: ModelSource, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_model(source)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_untrained_networks_are_drawn_from_the_seed(state: dict[str, torch.Tensor]) -> None:
    before = torch.random.get_rng_state()
    same, other = (load_model(ModelSource(NAME, weights="none"), seed=seed) for seed in (3, 4))
    assert all(torch.equal(value, state[key]) for key, value in same.model.state_dict().items())
    assert not torch.equal(other.model.state_dict()["features.0.weight"], state["features.0.weight"])
    assert torch.equal(before, torch.random.get_rng_state())
    assert (same.weights, same.sha256, same.classes, same.model.training) == ("none", None, 1000, False)
    assert same.label(1) == "goldfish"


@pytest.mark.parametrize(
    "form", ["plain", "state_dict", "model", "model_state_dict", "module", "half", "safetensors", "both"]
)
def test_checkpoints_in_all_their_forms(tmp_path: Path, state: dict[str, torch.Tensor], form: str) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    wrapped = {f"module.{key}": value for key, value in state.items()}
    contents: dict[str, Any] = {
        "plain": state,
        "module": wrapped,
        "half": {key: value.half() for key, value in state.items()},
        "both": {"epoch": 3, "state_dict": wrapped},
    }
    if form == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(contents.get(form, {form: state, "epoch": 3}), path)
    loaded = load_model(ModelSource(NAME, weights=str(path)))
    for key, value in loaded.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].half().float() if form == "half" else state[key])
    assert loaded.weights == str(path) and len(loaded.sha256 or "") == 64 and loaded.label(1) == "goldfish"


def test_another_number_of_classes_is_read_from_the_checkpoint(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    fewer = state | {key: state[key][:7].clone() for key in ("classifier.1.weight", "classifier.1.bias")}
    torch.save(fewer, tmp_path / "seven.pth")
    (tmp_path / "names.txt").write_text("\n".join("abcdefg") + "\n")
    classifier = load_model(ModelSource(NAME, weights=str(tmp_path / "seven.pth")))
    assert (classifier.classes, classifier.labels, classifier.label(3)) == (7, None, "class 3")
    named = load_model(ModelSource(NAME, weights=str(tmp_path / "seven.pth"), labels=str(tmp_path / "names.txt")))
    assert named.label(3) == "d"


def test_checkpoints_that_do_not_fit_name_the_keys(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    broken = {key: value for key, value in state.items() if key != "features.0.bias"}
    broken |= {"extra.weight": torch.zeros(1), "features.0.weight": torch.zeros(2, 3)}
    torch.save(broken, tmp_path / "odd.pth")
    refused(
        ModelSource(NAME, weights=str(tmp_path / "odd.pth")),
        "missing features.0.bias",
        "unexpected extra.weight",
        "features.0.weight (2, 3) where (64, 3, 3, 3)",
    )
    torch.save(state, tmp_path / "squeeze.pth")
    refused(ModelSource("resnet18", weights=str(tmp_path / "squeeze.pth")), "does not fit", "conv1.weight", "more")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (RAN,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))], ids=["zip", "pickle"]
)
def test_no_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any) -> None:
    monkeypatch.chdir(tmp_path)
    save({"state_dict": Malicious()}, tmp_path / "evil.pth")
    refused(ModelSource(NAME, weights="evil.pth"), "could run code", "python -c")
    assert not RAN.exists()
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    refused(ModelSource(NAME, weights="whole.pth"), "could run code")


@pytest.mark.filterwarnings("ignore")
def test_files_that_are_no_checkpoints(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    files = {
        "empty.pth": b"",
        "cut.pth": content[: len(content) // 2],
        "text.pth": b"hello",
        "text.safetensors": b"hello",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        refused(ModelSource(NAME, weights=str(tmp_path / name)), f"model.weights={tmp_path / name}")
    refused(ModelSource(NAME, weights=str(tmp_path / "none.pth")), "no such file")
    refused(ModelSource(NAME, weights=str(tmp_path)), "folder")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(ModelSource(NAME, weights=str(tmp_path / "list.pth")), "state_dict()")
    torch.save({"lr": 0.1}, tmp_path / "number.pth")
    refused(ModelSource(NAME, weights=str(tmp_path / "number.pth")), "'lr'")
    torch.jit.save(torch.jit.script(nn.ReLU()), str(tmp_path / "script.pt"))
    refused(ModelSource(NAME, weights=str(tmp_path / "script.pt")), "TorchScript")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    torch.save({"a.weight": torch.tensor([1.0, value])}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"a\.weight.*not finite"):
        read_state_dict(tmp_path / "nan.pth", nn.ModuleDict({"a": nn.Linear(1, 1)}))


def test_unknown_names_and_no_classifiers() -> None:
    refused(ModelSource("resnet51", weights="none"), "resnet51", "resnet50")
    refused(ModelSource("deeplabv3_resnet50", weights="none"), "no classifier")


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("invalid hash value")])
def test_no_network(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision.models, "get_model", fail)
    refused(ModelSource("resnet18"), "model.weights=PATH", "model.weights=none")


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_training_branches_are_not_part_of_the_classifier(tmp_path: Path, name: str) -> None:
    full = torchvision.models.get_model(name, weights=None, init_weights=False, aux_logits=True).eval()
    torch.save(full.state_dict(), tmp_path / "w.pth")
    classifier = load_model(ModelSource(name, weights=str(tmp_path / "w.pth")))
    assert classifier.model.transform_input and not [
        key for key, _ in classifier.model.named_modules() if "aux" in key.lower()
    ]


def test_factories(tmp_path: Path) -> None:
    classifier = load_model(ModelSource(None, factory=f"{__name__}:built", size=8))
    assert (classifier.name, classifier.classes, classifier.model.training) == ("built", 5, False)
    assert "mean" in classifier.notes[0] and "size" not in classifier.notes[0].split("; set")[0]
    torch.save(classifier.model.state_dict(), tmp_path / "w.pth")
    again = load_model(
        ModelSource("mine", factory=f"{__name__}:built", size=8, weights=str(tmp_path / "w.pth")), seed=9
    )
    assert again.name == "mine" and again.weights == str(tmp_path / "w.pth")
    assert torch.equal(again.model.state_dict()["0.weight"], classifier.model.state_dict()["0.weight"])
    refused(ModelSource(None, factory=f"{__name__}:built", size=9), "model.size")
    for factory, word in (
        ("built", "package.module:function"),
        ("no_such_package.x:f", "no module no_such_package"),
        (f"{__name__}:buit", "close: built"),
        (f"{__name__}:NAME", "an object of type str"),
        (f"{__name__}:words", "returned str"),
    ):
        refused(ModelSource(None, factory=factory), f"model.factory={factory}", word)


def test_wrapping_leaves_the_users_network_alone() -> None:
    network = built().train()
    classifier = wrap(network, size=8, mean=(0, 0, 0), std=(1, 1, 1))
    assert network.training and not classifier.model.training and classifier.model is not network
    assert classifier.notes == () and classifier.classes == 5
    with pytest.raises(UserError, match="3 given"):
        wrap(network, labels=["a", "b", "c"], size=8)
    with pytest.raises(UserError, match="one row of class scores"):
        wrap(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize("name", [NAME, "convnext_tiny", "efficientnet_b1"])
def test_the_network_sees_what_torchvision_shows_it(name: str) -> None:
    image = torch.randint(0, 256, (3, 300, 411), dtype=torch.uint8)
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    preprocessing = load_model(ModelSource(name, weights="none")).preprocessing
    seen = preprocessing.view(image)
    assert seen.shape[-1] == preprocessing.size and seen.min() >= 0 and seen.max() <= 1
    assert torch.allclose(preprocessing.normalise(seen)[0], transforms(image), atol=1e-5)


def test_sizes_of_ones_own() -> None:
    assert load_model(ModelSource(NAME, weights="none", size=112)).preprocessing.resize == 128
    assert wrap(built(), size=8).preprocessing.resize == 8
    assert Preprocessing(size=4, resize=4).view(torch.zeros(3, 9, 30, dtype=torch.uint8)).shape == (1, 3, 4, 4)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    (tmp_path / "w.pth").chmod(0)
    refused(ModelSource(NAME, weights=str(tmp_path / "w.pth")), "permission")


def test_default_weights_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load_model(ModelSource(NAME, weights="none")).model
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: network)
    monkeypatch.setattr("spade_cli.models.torchvision.hash_file", lambda path: "f" * 64)
    classifier = load_model(NAME)
    assert classifier.weights == "IMAGENET1K_V1" and classifier.sha256


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_float32(tmp_path: Path, kind: torch.dtype) -> None:
    torch.save({"w": torch.ones(2, dtype=kind), "count": torch.tensor(3)}, tmp_path / "w.pth")
    state, _ = read_state_dict(tmp_path / "w.pth", nn.Linear(1, 1))
    assert state["w"].dtype == torch.float32 and state["count"].dtype == torch.int64


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_made_to_confuse(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    loop: dict[str, Any] = {"lr": 0.1}
    loop["model"] = loop
    weight = torch.ones(2, 2)
    contents: dict[str, tuple[Any, str]] = {
        "loop": (loop, "no weights"),
        "sparse": ({"w": weight.to_sparse()}, "plain dense tensors"),
        "meta": ({"w": weight.to("meta")}, "no values"),
        "whole": (state | {"features.0.weight": state["features.0.weight"].int()}, "torch.int32 where torch.float32"),
    }
    for name, (content, word) in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
        refused(ModelSource(NAME, weights=str(tmp_path / f"{name}.pth")), word)


def test_wrappers_around_wrappers(tmp_path: Path) -> None:
    network = torch.nn.DataParallel(built())
    torch.save({f"_orig_mod.{key}": value for key, value in network.state_dict().items()}, tmp_path / "w.pth")
    state, notes = read_state_dict(tmp_path / "w.pth", network)
    assert set(state) == set(built().state_dict()) and notes == ()
    load_weights(network, state, "weights", "network")
