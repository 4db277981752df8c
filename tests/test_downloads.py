"""URLs: a local copy of what they hold, for `spade run` as for `spade batch`; one line where it cannot be had."""

import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from networks import photograph

from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.images import download
from spade_cli.images.download import copy_to_folder, name_file
from spade_cli.models.checkpoints import hash_file

QUICK = (
    *("model=python", "model.factory=networks:small", "model.size=32", "augmentation.samples=2"),
    *("pruner=magnitude", "schedule=uniform", "interpreter=saliency", "interpreter.methods=[saliency]", "keep=[]"),
)


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A server on this machine that shows the folder `site`, and counts the bytes of /endless for ever."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "site"))

        def do_GET(self) -> None:
            if self.path == "/closed":
                self.send_error(403)
            elif self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(bytes(10_000))
                except OSError:  # the reader has had enough
                    pass
            else:
                super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "site").mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def refused(address: str, folder: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        copy_to_folder(address, folder)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"image={address}"), message
    assert all(word in message for word in words), message


def test_a_copy_holds_what_the_url_holds(memory: Any, website: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "site" / "my cat.jpg").write_bytes(content)
    memory.pipe("/pets/my cat.jpg", content)
    for address in ("memory://pets/my cat.jpg", f"file://{tmp_path}/site/my cat.jpg", f"{website}/my%20cat.jpg?size=3"):
        copy = copy_to_folder(address, tmp_path)
        assert copy == tmp_path / "my cat.jpg" and copy.read_bytes() == content
    assert copy_to_folder("a b.jpg", tmp_path) == Path("a b.jpg")


def test_names_of_copies_suit_every_file_system() -> None:
    assert name_file("s3://bucket/a/b.png") == "b.png"
    assert name_file("https://example.org/") == name_file("https://example.org") == "image"
    assert name_file("https://example.org/..") == name_file("memory://a/..") == "image"
    assert "/" not in name_file("https://example.org/a%2Fb.png?x=/") and ":" not in name_file("memory://a:b")
    assert len(os.fsencode(name_file(f"https://example.org/{'鶴' * 300}.{'x' * 300}?{'s' * 500}"))) <= 255


def test_urls_that_cannot_be_read(memory: Any, website: str, tmp_path: Path) -> None:
    refused(f"{website}/none.png", tmp_path, "404", "check the URL")
    refused(f"{website}/closed", tmp_path, "403")
    refused("memory://none.png", tmp_path, "nothing is there")
    refused(f"file://{tmp_path}/none.png", tmp_path, "nothing is there")
    refused(f"file://{tmp_path}/site", tmp_path, "folder")
    refused("no-such-protocol://cat.png", tmp_path, "no-such-protocol")
    refused("http://127.0.0.1:1/cat.png", tmp_path, "refused", "check the URL and the network")
    refused("http://", tmp_path, "no host")


def test_names_of_servers_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    refused("http://no-such-server.invalid/cat.png", tmp_path, "no server of that name")


def test_servers_that_do_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it listens, and says nothing
        monkeypatch.setattr(download, "PATIENCE", 0.2)
        started = time.perf_counter()
        refused(f"http://127.0.0.1:{server.getsockname()[1]}/cat.png", tmp_path, "no answer for 0.2 seconds")
        assert time.perf_counter() - started < 2


def test_what_is_larger_than_any_picture(
    memory: Any, website: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 3_000_000)
    memory.pipe("/three.bin", bytes(3_000_000))
    assert copy_to_folder("memory://three.bin", tmp_path).stat().st_size == 3_000_000
    memory.pipe("/more.bin", bytes(3_000_001))
    refused("memory://more.bin", tmp_path, "more than 3 MB")
    refused(f"{website}/endless", tmp_path, "more than 3 MB")


@pytest.mark.parametrize("kind", ["memory", "file", "http"])
def test_a_run_takes_urls(
    memory: Any,
    website: str,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "site" / "my cat.png"
    photograph().save(picture)
    memory.pipe("/my cat.png", picture.read_bytes())
    address = {"memory": "memory://my cat.png", "file": f"file://{picture}", "http": f"{website}/my%20cat.png?a=1"}[
        kind
    ]
    assert main(["run", f"image={address}", *QUICK]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder.name.endswith("-my-cat")
    image = json.loads((folder / "summary.json").read_text())["image"]
    assert image["path"] == address and image["sha256"] == hash_file(picture)


def test_a_run_of_a_url_without_a_picture_leaves_nothing(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    memory.pipe("/page.html", b"<html>")
    for address, word in (("memory://page.html", "not a picture"), ("memory://none.png", "nothing is there")):
        assert main(["run", f"image={address}", *QUICK]) == 2
        told = capsys.readouterr().err
        assert f"image={address}" in told and word in told and not list(tmp_path.iterdir())


def test_a_batch_takes_a_picture_of_the_web(website: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photograph().save(tmp_path / "site" / "cat.png")
    assert main(["batch", f"images={website}/cat.png", "out=explained", *QUICK]) == 0
    (row,) = [json.loads(line) for line in Path("explained/index.jsonl").read_text().splitlines()]
    assert row["image"] == f"{website}/cat.png" and row["folder"].endswith("-cat")
