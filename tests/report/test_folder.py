"""Names of files and folders: short enough for every file system, and one for each thing."""

import json
import os
from pathlib import Path

import pytest
from networks import photograph

from spade_cli.batch.storage import open_storage
from spade_cli.cli import main
from spade_cli.files import shorten_name
from spade_cli.report.run_folder import NAME_BYTES, slug, slugs

LONGEST = 255  # bytes of a name on the usual file systems
LABELS = ["鶴" * 400, "a b", "𠀀" * 400, "A/B", "x" * 400]  # characters of three, one, four bytes
QUICK = (
    *("model=python", "model.factory=networks:small", "model.size=32", "augmentation.samples=2", "keep=[]"),
    *("pruner=magnitude", "schedule=uniform", "interpreter.methods=[saliency]", "interpreter.steps=2"),
)


@pytest.mark.parametrize("character", ["x", "é", "鶴", "𠀀"])
def test_names_are_cut_by_bytes_between_characters(character: str) -> None:
    size = len(character.encode())
    for most in range(9):
        assert shorten_name(character * 5, most) == character * min(5, most // size)
    assert slug(character * 400) == character * (NAME_BYTES // size)
    assert slug("a" * (NAME_BYTES - 1) + "-b") == "a" * (NAME_BYTES - 1)


def test_names_that_become_one_stay_apart() -> None:
    names = ["a b", "a-b", "A:B", "鶴" * 100 + "a", "鶴" * 100 + "b", "", "/", "a-b-2"]
    found = slugs(names)
    assert list(found) == names and found["a b"] == "a-b" and found["a-b"] == "a-b-2"
    assert len({name.casefold() for name in found.values()}) == len(names)
    assert all(len(os.fsencode(name)) < LONGEST - 20 for name in found.values())


def names_below(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")]


def test_runs_of_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = "鶴" * 80 + ".png"
    photograph().save(image)
    Path("labels.txt").write_text("\n".join(LABELS), encoding="utf-8")
    words = [*QUICK, "model.labels=labels.txt", "interpreter.targets=[0,1,2,3,4,conv1:0]"]
    assert main(["run", f"image={image}", *words]) == 0
    (folder,) = Path("outputs").glob("*/*")
    shown = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["visualizations"]
    assert len(shown) == 12 and len({one["picture"] for one in shown}) == 12
    assert all((folder / one["picture"]).is_file() for one in shown)
    assert all(len(os.fsencode(name)) <= LONGEST for name in names_below(tmp_path))
    assert main(["batch", f"images={image}", "out=batch", *words]) == 0
    assert main(["sweep", f"image={image}", "out=sweep", f"target={LABELS[2]},{LABELS[4]}", *words]) == 0
    for out, count in (("batch", 1), ("sweep", 2)):
        assert len(list(Path(out).rglob("summary.json"))) == count


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_not_text_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.png")
    try:
        photograph().save(name)
    except OSError:
        pytest.skip("this file system takes text only")
    assert main(["run", f"image={name}", *QUICK]) == 2
    assert "image=caf?.png has a name" in capsys.readouterr().err and not Path("outputs").exists()


def test_what_is_being_written_has_a_short_name(tmp_path: Path) -> None:
    with open_storage(str(tmp_path)).result(f"images/{'鶴' * 60}/03-{'鶴' * 60}") as partial:
        assert len(os.fsencode(partial.name)) <= LONGEST
        (partial / "summary.json").write_text("{}")
