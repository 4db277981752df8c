"""The sparse checkpoint: nothing is lost, zeros cost a bit, other files are refused."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spade_cli.errors import SpadeError, UserError
from spade_cli.files import write_whole
from spade_cli.report.checkpoint import load_trace, save_trace


def test_every_tensor_comes_back(tmp_path):
    torch.manual_seed(0)
    shared = torch.randn(4, 4)
    state = {
        "sparse": torch.randn(7, 3, 3, 3) * (torch.rand(7, 3, 3, 3) < 0.1),
        "half": (torch.randn(5, 11) * (torch.rand(5, 11) < 0.2)).half(),
        "all zero": torch.zeros(3, 5),
        "dense": torch.randn(6, 2).t(),
        "tied 1": shared,
        "tied 2": shared,
        "counter": torch.tensor(3),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0),
        "bfloat": torch.zeros(64, dtype=torch.bfloat16),
    }
    save_trace(state, tmp_path / "t.safetensors")
    found = load_trace(tmp_path / "t.safetensors")
    assert set(found) == set(state)
    for key, value in state.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key


def test_sparse_weights_take_little_space(tmp_path):
    weight = torch.zeros(1000, 1000)
    weight.view(-1)[:50_000] = 1.0
    save_trace({"w": weight}, tmp_path / "t.safetensors")
    assert (tmp_path / "t.safetensors").stat().st_size < 1_000_000 / 8 + 4 * 50_000 + 1000


def test_other_files_are_refused(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\x00" * 100)
    for name in ("other.safetensors", "noise.safetensors", "missing.safetensors"):
        with pytest.raises(UserError, match="spade trace"):
            load_trace(tmp_path / name)


@pytest.mark.parametrize("shapes", ["{}", "nonsense", '{"w": [3, 3]}', '{"w": "4"}', "[]"])
def test_tampered_files_are_refused(tmp_path, shapes):
    save_trace({"w": torch.eye(8)}, tmp_path / "t.safetensors")
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {**file.metadata(), "shapes": shapes}
    save_file(tensors, tmp_path / "t.safetensors", metadata)
    with pytest.raises(UserError, match="spade trace"):
        load_trace(tmp_path / "t.safetensors")


def test_failed_write_keeps_the_old_file(tmp_path):
    out = tmp_path / "out.pth"
    out.write_text("old")

    def half(path):
        path.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(SpadeError, match="disk full"):
        write_whole(out, half)
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]
