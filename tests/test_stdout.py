"""stdout carries a command's answer alone, whatever a user's network or a library prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spade_cli.cli import own_stdout

ROOT = Path(__file__).parents[1]
LOUD = ["model=python", "model.factory=user_networks:loud", "model.size=32", "augmentation.samples=4"]
QUICK = ["interpreter=saliency", "interpreter.methods=saliency"]


@pytest.mark.skipif(os.name == "nt", reason="the C library is found by another name there")
def test_what_a_network_prints_never_reaches_stdout(tmp_path: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").convert("RGB").save(tmp_path / "cat.png")
    commands = [
        ["run", "image=cat.png", *LOUD, *QUICK],
        ["neurons", "top=1", "steps=1", "layers=body.conv1"],
        ["layers", *LOUD[:3]],
        ["batch", "images=cat.png", "out=many", "workers=2", *LOUD, *QUICK],
        ["batch", "resume=many"],
    ]
    code = f"from spade_cli.cli import main\nfor command in {commands}: assert main([*command, '--json', '-q']) == 0"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        # What is held back until the end counts as well, and unbuffered nothing is.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(row)) for row in rows] == ["run", "page", *["layer"] * 4, "folder", "folder"]
    for way in ("when made", "when run", "past sys.stdout", "past Python", "in C"):
        assert f"LOUD {way}\n" in done.stderr


def test_print_goes_to_stderr_and_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with own_stdout.reserve(), own_stdout.reserve():
        print("theirs")
        own_stdout.say("ours")
    assert sys.stdout is before
    assert capsys.readouterr() == ("ours\n", "theirs\n")
    own_stdout.say("outside")
    assert capsys.readouterr().out == "outside\n"
