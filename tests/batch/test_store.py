"""out=s3:// on a store of this machine that restarts in the middle of a batch: nothing lost, nothing twice."""

import json
import socket
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from many import pictures
from PIL import Image
from test_batch import asked

from spade_cli.batch import batch, storage
from spade_cli.cli import main
from spade_cli.errors import StoreError
from spade_cli.images import augment

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs", reason="s3fs is not installed: no s3:// here")
server = pytest.importorskip("moto.server", reason="moto[server] is not installed: no store of this machine")


class Store:
    """moto's S3, in threads of this process: what it holds survives a stop."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        self.server = server.ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self.server.start()

    def stop(self):
        self.server.stop()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A running store with the bucket `results`, four pictures beside it, and a client that gives up soon."""
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures", 4)
    running = Store()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{running.port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "PAUSES", (0.1, 0.2, 0.4, 0.8, 1.6, 3.2))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").makedirs("results", exist_ok=True)  # moto remembers it from the test before
    yield running
    running.stop()


@pytest.fixture
def pixel():
    """Of the picture at which something happens to the store."""
    return lambda: int(np.array(Image.open("pictures/dogs 0/é 1.png"))[0, 0, 0])


def happens(then, pixel):
    """The paper's augmentation, which calls `then` once, at one picture."""
    left = [then]

    def augmentation(image, samples, preprocessing, seed):
        if image[0, 0, 0] == pixel and left:
            left.pop()()
        return augment.paper(image, samples, preprocessing, seed)

    return augmentation


def read_store(out):
    """The rows in the store, and when each summary was written."""
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    rows = [json.loads(line) for line in fs.cat(f"{out}/index.jsonl").decode().splitlines()]
    return rows, {path: fs.info(path)["LastModified"] for path in fs.find(out) if path.endswith("summary.json")}


def test_a_store_that_restarts_in_the_middle_costs_nothing(store, pixel):
    def restart():
        store.stop()
        Timer(1.0, store.start).start()

    whole = batch(asked("whole", augmentation=augment.paper))
    batch(asked("s3://results/a", augmentation=happens(restart, pixel())))
    rows, summaries = read_store("results/a")
    own = [json.loads(line) for line in Path(whole, "index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["status"] for row in rows] == ["done"] * 4 and len(summaries) == 4
    assert [(row["image"], row["kl"]) for row in rows] == [(row["image"], row["kl"]) for row in own]


def test_a_store_that_stays_away_stops_the_batch_which_is_resumed(store, pixel, monkeypatch):
    monkeypatch.setattr(storage, "PAUSES", (0.1,))
    with pytest.raises(StoreError, match=r"out=s3://results/b: .*resume with resume=s3://results/b"):
        batch(asked("s3://results/b", augmentation=happens(store.stop, pixel())))
    store.start()
    fs = fsspec.filesystem("s3")
    before = {path: fs.info(path)["LastModified"] for path in fs.find("results/b") if path.endswith("summary.json")}
    assert len(before) == 1, "the second picture stopped the store"
    batch(asked("s3://results/b", augmentation=augment.paper))
    rows, summaries = read_store("results/b")
    assert [row["number"] for row in rows] == [0, 1, 2, 3] and {row["status"] for row in rows} == {"done"}
    assert before.items() <= summaries.items() and len(summaries) == 4, "what was finished is not done again"


def test_a_folder_of_a_store_that_holds_no_batch_is_a_mistake(store, capsys):
    assert main(["batch", "resume=s3://results/nothing"]) == 2
    assert "s3://results/nothing holds no batch" in capsys.readouterr().err
