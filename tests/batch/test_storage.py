"""URLs for images and for results: read from one, written whole, found again."""

import json
from pathlib import Path

import fsspec
import pytest
from many import QUICK, pictures

from spade_cli.batch.storage import open_storage
from spade_cli.cli import main


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()


def test_a_batch_in_a_store(memory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in pictures(Path("local"), 3).rglob("*.png"):
        memory.pipe("/in/" + path.relative_to("local").as_posix(), path.read_bytes())
    assert main(["batch", "images=memory://in", *QUICK, "out=memory://results/a"]) == 0
    rows = [json.loads(line) for line in memory.cat("/results/a/index.jsonl").decode().splitlines()]
    assert [row["image"] for row in rows] == [
        *("memory:///in/dogs 0/é 0.png", "memory:///in/dogs 0/é 1.png", "memory:///in/dogs 1/é 0.png")
    ]
    summary = json.loads(memory.cat(f"/results/a/{rows[0]['folder']}/summary.json"))
    assert summary["image"]["path"] == rows[0]["image"]
    assert memory.exists(f"/results/a/{rows[0]['folder']}/saliency/saliency_trace.npy")
    assert len(memory.cat("/results/a/index.csv").decode().splitlines()) == 4
    then = memory.info(f"/results/a/{rows[1]['folder']}/summary.json")["created"]
    memory.pipe("/results/a/index.jsonl", b"")  # killed before the table was uploaded
    memory.rm(f"/results/a/{rows[2]['folder']}/summary.json")  # and before this result was complete
    assert main(["batch", "resume=memory://results/a"]) == 0
    again = [json.loads(line) for line in memory.cat("/results/a/index.jsonl").decode().splitlines()]
    assert [row["folder"] for row in again] == [row["folder"] for row in rows] and again[:2] == rows[:2]
    assert memory.info(f"/results/a/{rows[1]['folder']}/summary.json")["created"] == then
    assert not [path for path in Path().iterdir() if path.name != "local"]


def test_file_urls_are_folders(tmp_path):
    assert open_storage(f"file://{tmp_path}/a b").root == tmp_path / "a b"


def test_a_result_is_there_whole_or_not_at_all(tmp_path):
    store = open_storage(str(tmp_path))
    with pytest.raises(ZeroDivisionError), store.result("images/x") as partial:
        (partial / "summary.json").write_text("{}")
        raise ZeroDivisionError
    assert not store.has("images/x/summary.json")
    for text in ("first", "second"):
        with store.result("images/x") as partial:
            (partial / "summary.json").write_text(text)
    assert store.read("images/x/summary.json") == b"first" and not list((tmp_path / ".partial").iterdir())
