"""images=: folders, patterns, lists and URLs, in a fixed order; and what is no image of the user's."""

from pathlib import Path

import fsspec
import pytest

from spade_cli.errors import UserError
from spade_cli.images.find import find_images


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/a.png", "sub/deep/c.webp", ".git/x.png"):
        write(Path("photos") / name)
    return tmp_path


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def found(images, out="out"):
    return [path.replace("\\", "/") for path in find_images(images, out)]


def test_folders_with_their_sub_folders(here):
    assert found("photos") == ["photos/a.png", "photos/b.JPG", "photos/sub/a.png", "photos/sub/deep/c.webp"]


def test_results_are_no_images(here):
    write(Path("photos/results/batch.json"))
    write(Path("photos/results/images/0000/x/overview.png"))
    write(Path("photos/results of a run/summary.json"))  # its trace was not kept
    write(Path("photos/results of a run/image.png"))
    write(Path("photos/mine/overlay.png"))
    assert found("photos", out="photos/mine") == found("photos", out="photos/mine/")
    assert not [path for path in found("photos", out="photos/mine") if "mine" in path or "results" in path]


def test_masks_are_no_images(here):
    for name in ("labels.json", "images/1.png", "masks/1.png"):
        write(Path("world") / name)
    assert found("world") == ["world/images/1.png"]


def test_patterns(here):
    assert found("photos/*.png") == ["photos/a.png"]
    assert found("photos/**/*.png") == ["photos/a.png", "photos/sub/a.png"]
    write(Path("photos/odd[1].png"))
    assert found("photos/odd[1].png") == ["photos/odd[1].png"], "a path that is there is no pattern"


def test_lists(here):
    Path("list.txt").write_text("\ufeffphotos/b.JPG\n\n  photos/a.png\nphotos/b.JPG\ngone.xyz\ns3://bucket/a.png\n")
    assert found("list.txt") == ["photos/b.JPG", "photos/a.png", "gone.xyz", "s3://bucket/a.png"]


def test_urls(here):
    memory = fsspec.filesystem("memory")
    for name in ("/listed/b.png", "/listed/sub/a.jpg", "/listed/notes.txt"):
        memory.pipe(name, b"x")
    assert found("memory://listed") == ["memory:///listed/b.png", "memory:///listed/sub/a.jpg"]
    assert found("memory://listed/*.png") == ["memory:///listed/b.png"]
    assert found(Path("photos").resolve().as_uri()) == [
        f"file://{Path('photos').resolve()}/{name}" for name in ("a.png", "b.JPG", "sub/a.png", "sub/deep/c.webp")
    ]


@pytest.mark.parametrize("images", ["nowhere", "photos/*.tiff", "empty", "empty.txt", "memory://nothing", "odd://x"])
def test_nothing_is_a_mistake(here, images):
    Path("empty").mkdir()
    Path("empty.txt").write_text("\n")
    with pytest.raises(UserError, match="images="):
        found(images)
