"""The cache's folder: whole entries, damaged ones, a limit, several writers, and `spade cache`."""

import json
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from spade_cli.cache import LOST, Cache, default_folder
from spade_cli.cli import main
from spade_cli.files import leave_out_storage

NOTES = {"network": "small", "targets": "output:1", "steps": "3", "size": "8"}


def name(number: int) -> str:
    return f"{number:032x}"


def array(number: int) -> np.ndarray:
    return np.full((1, 3, 8, 8), number / 7, dtype=np.float32)


def test_tests_do_not_write_into_the_users_own_cache() -> None:
    folder = default_folder()
    assert folder is not None and folder != Path.home() / ".cache" / "spade" and "pytest" in str(folder)


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_without_an_absolute_xdg_folder_it_is_in_the_home(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_folder() == Path("/home/someone/.cache/spade")


def test_what_was_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new")
    assert cache.read(name(1)) is None and cache.entries() == [] and cache.clear() == []
    cache.write(name(1), array(1), NOTES)
    found = cache.read(name(1))
    assert found is not None and found.dtype == np.float32 and np.array_equal(found, array(1))
    (entry,) = cache.entries()
    assert NOTES.items() <= entry.notes.items() and entry.bytes == entry.path.stat().st_size
    assert [path.name for path in cache.folder.iterdir()] == [f"{name(1)}.safetensors"], "no unfinished file is left"


def flip_a_bit(content: bytes) -> bytes:
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda content: b"", lambda content: content[: len(content) // 2], flip_a_bit, lambda content: b"\xff" * 99),
        lambda content: pickle.dumps(os.getcwd),
    ],
    ids=["empty", "half", "a bit", "no safetensors", "a pickle"],
)
def test_a_damaged_entry_is_none_and_can_be_written_again(damage, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(name(1), array(1), NOTES)
    (path,) = cache.folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read(name(1)) is None and len(cache.entries()) == 1
    cache.write(name(1), array(1), NOTES)
    assert np.array_equal(cache.read(name(1)), array(1))


def test_the_longest_unused_go_first_and_nothing_else(tmp_path: Path) -> None:
    Cache(tmp_path).write(name(0), array(0), NOTES)
    size = Cache(tmp_path).entries()[0].bytes
    cache = Cache(tmp_path, limit=3 * size)
    others = [tmp_path / "visualizations" / "mine.safetensors", tmp_path / "notes.txt"]
    for path in others:
        path.write_text("mine" * size)
    for number in (1, 2):
        cache.write(name(number), array(number), NOTES)
    for number, age in ((0, 300), (1, 200), (2, 100)):
        os.utime(cache.folder / f"{name(number)}.safetensors", (0, time.time() - age))
    assert cache.read(name(0)) is not None  # a use: it is the youngest now
    cache.write(name(3), array(3), NOTES)
    assert {entry.path.stem for entry in cache.entries()} == {name(2), name(0), name(3)}
    Cache(tmp_path, limit=size - 1).write(name(4), array(4), NOTES)
    assert cache.entries() == [] and all(path.exists() for path in others)


def test_what_a_killed_process_left_goes_after_a_day_and_not_before(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(name(1), array(1), NOTES)
    young, old = (cache.folder / f"{name(1)}.safetensors.{part}.part" for part in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (0, time.time() - LOST - 60))
    cache.write(name(2), array(2), NOTES)
    assert young.exists() and not old.exists() and len(cache.entries()) == 2
    assert len(cache.clear()) == 2 and list(cache.folder.iterdir()) == []


def test_many_at_once_read_whole_entries_or_none(tmp_path: Path) -> None:
    Cache(tmp_path).write(name(0), array(0), NOTES)
    cache = Cache(tmp_path, limit=2 * Cache(tmp_path).entries()[0].bytes)

    def work(turn: int) -> bool:
        number = turn % 3
        cache.write(name(number), array(number), NOTES)
        found = cache.read(name(number))
        return found is None or np.array_equal(found, array(number))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(120)))
    assert all(path.suffix == ".safetensors" for path in cache.folder.iterdir())


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    cache.write(name(1), array(1), NOTES)
    assert cache.read(name(1)) is None and cache.entries() == [] and cache.clear() == []


def test_the_command_lists_and_clears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, folder = Cache(tmp_path), f"folder={tmp_path}"
    assert main(["cache", folder]) == 0 and "holds nothing" in capsys.readouterr().out
    for number in (1, 2):
        cache.write(name(number), array(number), NOTES | {"targets": f"output:{number}"})
    os.utime(cache.folder / f"{name(2)}.safetensors", (0, 10))
    assert main(["cache", folder, "--plain"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["network", "targets", "steps", "size"]
    assert [row.split()[:4] for row in rows] == [["small", "output:2", "3", "8"], ["small", "output:1", "3", "8"]]
    assert main(["cache", folder, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["targets"] for one in found] == ["output:2", "output:1"] and found[0]["last_use"] == 10
    assert all(Path(one["file"]).stat().st_size == one["bytes"] for one in found)
    assert main(["cache", folder, "--clear"]) == 0 and "deleted 2 entries" in capsys.readouterr().out
    assert cache.entries() == []


def test_a_damaged_entry_is_listed_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path)
    cache.write(name(1), array(1), NOTES)
    next(cache.folder.iterdir()).write_bytes(b"half")
    assert main(["cache", f"folder={tmp_path}"]) == 0 and "damaged" in capsys.readouterr().out


def test_a_batch_that_began_without_a_cache_can_be_resumed_with_one() -> None:
    began = {"seed": 0, "interpreter": {"steps": 8}, "calibration": {"rows_per_column": 32}, "keep": ["report"]}
    now = {**began, "interpreter": {"steps": 8, "cache": "auto", "cache_limit": 1}}
    assert leave_out_storage(now) == leave_out_storage(began) == began
    assert leave_out_storage({"interpreter": None, "cache": 3}) == {"interpreter": None, "cache": 3}
