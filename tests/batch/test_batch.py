"""spade batch: what it writes is what spade run writes, and no kill, bad image or dead worker changes it."""

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from many import QUICK, alike, dies_always, dies_once, differing, pictures, started, table
from networks import photograph
from PIL import Image
from test_run import request as run_request

from spade_cli import interpretation
from spade_cli.batch import batch
from spade_cli.batch.batch_request import BatchRequest
from spade_cli.batch.engines import local as engine
from spade_cli.batch.explain_images import BatchWork, Size
from spade_cli.cli import main
from spade_cli.errors import SpadeError
from spade_cli.images import augment
from spade_cli.models import ModelSource
from spade_cli.pruning import find_pruner


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request(output, **changes):
    settings = dict(
        model=ModelSource(None, factory="networks:small", size=32),
        sample_count=4,
        saliency={"saliency": interpretation.METHODS["saliency"]},
        visualize=None,
        device="cpu",
    )
    return run_request(Path("none"), Path(output), **{**settings, **changes})


def asked(out, workers=1, **changes):
    return BatchRequest("pictures", str(out), BatchWork(request(out, **changes), str(out), None), engine.local, workers)


def test_each_image_gets_what_a_run_writes(here):
    pictures(here / "pictures", 3)
    assert main(["batch", "images=pictures", *QUICK, "out=many"]) == 0
    rows = table("many")
    assert [row["image"] for row in rows] == [
        "pictures/dogs 0/é 0.png",
        "pictures/dogs 0/é 1.png",
        "pictures/dogs 1/é 0.png",
    ]
    assert main(["run", f"image={rows[2]['image']}", *QUICK, "out=one"]) == 0
    run, result = next(Path("one").glob("*/*")), Path("many") / rows[2]["folder"]
    assert differing(run, result) == {"summary.json", "run.log", "config.yaml", "report.html"}
    alone, summary = (json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in (run, result))
    same = set(alone) - {"command", "seconds", "saliency"}
    assert set(alone) == set(summary) and {key: alone[key] for key in same} == {key: summary[key] for key in same}
    assert rows[2]["prediction"]["trace"]["label"] == summary["prediction"]["trace"]["label"]
    assert rows[2]["seconds"] == summary["seconds"]["total"] >= summary["seconds"]["saliency"] > 0
    with (Path("many") / "index.csv").open(encoding="utf-8", newline="") as file:
        assert [float(line["kl"]) for line in csv.DictReader(file)] == [row["kl"] for row in rows]


def test_killed_at_random_moments_it_ends_with_one_result_each(here):
    pictures(here / "pictures", 9)
    (here / "pictures" / "bad.png").write_text("no picture")
    words = ("batch", "images=pictures", *QUICK)
    assert main([*words, "out=whole"]) == 1
    chance, kept = random.Random(), {}
    for _ in range(2):
        process = started(*words, "out=killed")
        before, limit = len(list(Path("killed").glob("images/*/*/"))), time.monotonic() + 60
        while len(list(Path("killed").glob("images/*/*/"))) <= before and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        now = {path: path.stat().st_mtime_ns for path in Path("killed").glob("images/*/*/summary.json")}
        assert kept.items() <= now.items(), "what was finished is not done again"
        kept = now
    with Path("killed/index.jsonl").open("ab") as file:
        file.write(b'{"number": 3, "ima')  # a kill in the middle of a line
    assert main(["batch", "resume=killed"]) == 1
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert alike("killed", "whole")
    assert {path.name for path in Path("killed").iterdir()} == {
        *("batch.json", "images.jsonl", "index.jsonl", "index.csv", "images", ".lock", "index.html", "thumbnails")
    }
    assert len(Path("killed/index.csv").read_text().splitlines()) == 11


def test_bad_images_are_rows_and_strict_stops(here, capsys):
    pictures(here / "pictures", 2)
    (here / "pictures" / "dogs 0" / "a.jpg").write_text("no picture")
    Image.new("RGB", (4, 4)).save(here / "pictures" / "dogs 0" / "b.png")
    words = ["batch", "images=pictures", *QUICK]
    assert main([*words, "out=out"]) == 1
    captured = capsys.readouterr()
    assert "2 of 4 results failed, first pictures/dogs 0/a.jpg: is not a picture" in captured.err.splitlines()[-1]
    assert captured.out == "out\n"
    rows = table("out")
    assert [row["status"] for row in rows] == ["failed", "failed", "done", "done"]
    assert "too small" in rows[1]["reason"] and rows[1]["folder"] == "" and "traceback" not in rows[1]
    assert main([*words, "out=strict", "batch.strict=true", "batch.size=1", "--plain"]) == 1
    assert "stopped at pictures/dogs 0/a.jpg" in capsys.readouterr().err.splitlines()[-1]
    assert len(table("strict")) == 1
    for name in ("a.jpg", "b.png"):
        photograph(seed=9).save(here / "pictures" / "dogs 0" / name)
    capsys.readouterr()
    assert main(["batch", "resume=strict", "--quiet"]) == 0 and len(table("strict")) == 4
    captured = capsys.readouterr()
    assert captured.out.endswith("strict\n") and captured.err == ""
    assert main(["batch", "resume=out"]) == 1, "failures stay"
    assert main(["batch", "resume=out", "batch.retry=true"]) == 0
    assert alike("out", "strict")


def test_a_fault_of_the_program_is_a_row_with_its_traceback(here):
    pictures(here / "pictures", 3)
    first = np.array(Image.open("pictures/dogs 0/é 0.png"))[0, 0, 0]
    with pytest.raises(SpadeError, match="1 of 3 results failed"):
        batch(asked("out", augmentation=partial(falls_over, pixel=int(first))))
    failed = table("out")[0]
    assert failed["reason"] == "ZeroDivisionError: odd" and "falls_over" in failed["traceback"]
    assert not (Path("out") / ".partial").exists()


def falls_over(image, samples, preprocessing, seed, *, pixel):
    if image[0, 0, 0] == pixel:
        raise ZeroDivisionError("odd")
    return augment.paper(image, samples, preprocessing, seed)


def test_workers_that_die_are_replaced(here):
    pictures(here / "pictures", 5)
    pixel = int(np.array(Image.open("pictures/dogs 0/é 1.png"))[0, 0, 0])
    whole = batch(asked("whole"))
    deadly = partial(dies_once, marker=str(here / "died"), pixel=pixel)
    assert batch(asked("out", workers=2, augmentation=deadly)) == "out"
    assert (here / "died").exists() and alike("out", whole)


def test_an_image_that_kills_every_worker_is_a_row(here, monkeypatch):
    monkeypatch.setattr(engine, "ATTEMPTS", 2)  # a worker takes seconds to start
    pictures(here / "pictures", 2)
    pixel = int(np.array(Image.open("pictures/dogs 0/é 0.png"))[0, 0, 0])
    with pytest.raises(SpadeError, match="1 of 2 results failed"):
        batch(asked("out", workers=2, augmentation=partial(dies_always, pixel=pixel)))
    rows = table("out")
    assert rows[0]["reason"].startswith("its worker process died 2 times") and rows[1]["status"] == "done"


def test_one_process_at_a_time_and_one_batch_a_folder(here, capsys):
    import fcntl

    pictures(here / "pictures", 1)
    words = ["batch", "images=pictures", *QUICK, "out=out"]
    assert main(words) == 0
    with (here / "out" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(words) == 2 and "another process is at work" in capsys.readouterr().err
    assert main([*words, "seed=1"]) == 2 and "seed is 0 there and 1 here" in capsys.readouterr().err
    assert main([*words, "workers=2", "batch.size=2"]) == 0, "they change no result"
    assert main(["batch", "images=pictures", *QUICK, "out=pictures"]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(["batch", "resume=out", "seed=1"]) == 2 and "leave out seed=1" in capsys.readouterr().err
    assert main(["batch", "images=pictures", *QUICK, "target=99", "out=new"]) == 2
    assert "class 99" in capsys.readouterr().err and not Path("new").exists()


def test_images_solved_together_are_the_same(here):
    pictures(here / "pictures", 5)
    for size in (1, 4):
        assert main(["batch", "images=pictures", *QUICK, "schedule=uniform", f"batch.size={size}", f"out={size}"]) == 0
    assert alike("1", "4")


def test_size_is_the_quicker_one(here):
    size = Size(None, request("out"), BatchWork(request("out"), "out", None).open().plan)
    assert (size.together, size.next()) == (8, 1)
    size.note_seconds(1, 9.0)  # warms up
    assert size.next() == 1
    size.note_seconds(1, 2.0)
    assert size.next() == 8
    size.note_seconds(3, 0.1)  # what was left of a bundle says nothing
    size.note_seconds(8, 8.0)
    assert size.next() == 8
    size.tried[8] = 3.0
    assert size.next() == 1
    assert Size(None, request("out", pruner=find_pruner("obs")), BatchWork(request("o"), "o", 1).open().plan).fixed


def test_sigterm_leaves_nothing_hidden_and_is_resumed(here):
    pictures(here / "pictures", 6)
    process = started("batch", "images=pictures", *QUICK, "out=out")
    limit = time.monotonic() + 60
    while not list(Path("out").glob("images/*/*/summary.json")) and time.monotonic() < limit:
        time.sleep(0.005)
    process.terminate()
    assert process.wait(60) == 143
    kept = {path: path.stat().st_mtime_ns for path in Path("out").glob("images/*/*/summary.json")}
    assert 0 < len(kept) < 6 and not Path("out/.partial").exists()
    rows = {row["folder"] for row in table("out")}
    missing = {f"images/0000/{path.parent.name}" for path in kept} - rows
    assert len(missing) <= 1, "a result's row is written after it: the last one may be missing until the batch goes on"
    assert main(["batch", "resume=out"]) == 0 and len(table("out")) == 6
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_a_folder_that_cannot_be_written_to_is_one_line(here, monkeypatch, capsys):
    pictures(here / "pictures", 1)
    words = ["batch", "images=pictures", *QUICK, "out=out"]
    assert main(words) == 0
    real = os.open

    def refuse(path, flags, *others, **named):
        if str(path).endswith(".lock"):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *others, **named)

    monkeypatch.setattr(os, "open", refuse)  # root may write everywhere: a mode of the folder would stop nobody
    assert main(words) == 2
    assert "out=out: cannot write there (Read-only file system)" in capsys.readouterr().err


def test_too_many_results_have_no_gallery_and_this_is_said(here, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["spade_cli.batch.batch"], "GALLERY_MOST", 1)
    pictures(here / "pictures", 2)
    assert main(["batch", "images=pictures", *QUICK, "out=out", "--plain"]) == 0
    assert "no gallery: it shows 1 results at most" in capsys.readouterr().err
    assert not Path("out/index.html").exists() and len(table("out")) == 2


LIMITED = """
import io, json, resource, sys
from contextlib import redirect_stderr
import matplotlib.font_manager  # keeps its list of fonts before there is a limit
from spade_cli.cli import main

ends = []
for size, words in json.loads(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))
    with redirect_stderr(io.StringIO()) as said:
        ends.append([main(words), said.getvalue()])
print(json.dumps(ends))
"""


def test_a_limit_on_the_size_of_files_is_one_line_and_leaves_nothing(here):
    pictures(here / "pictures", 2)
    run = ["run", "image=pictures/dogs 0/é 0.png", *QUICK, "out=runs", "--quiet"]
    many = ["batch", "images=pictures", *QUICK, "out=out", "--quiet"]
    # In a process of its own, whose output is no file. Too large is the log, a map (12,416 bytes), or the report.
    sizes = (60, 12_000, 20_000)
    asked = [(size, words) for size in sizes for words in (run, many)] + [(-1, many)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, json.dumps(asked)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *limited, free = json.loads(ended.stdout.splitlines()[-1])
    for code, said in limited:
        assert code in (1, 2) and said.startswith("spade: ") and said.count("\n") == 1, said
        assert "File too large" in said
    assert all("ulimit -f" in said for code, said in limited if code == 1) and limited[-1][0] == 1
    assert not Path("runs").exists() and not Path("out/.partial").exists()
    assert free == [0, ""] and [row["status"] for row in table("out")] == ["done", "done"]
