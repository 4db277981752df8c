"""Breaks lines one at a time and runs the tests that must guard them: a line whose tests still pass is unguarded.

    python scripts/mutate.py [TEXT ...]

The lines are those of scripts/mutants.yaml; with TEXT, those whose file or text has it. Each is broken in a copy of the
repository, and its tests run in a fork of this process, which has loaded the libraries already. A line of text for
each: killed (a test failed), SURVIVED, or stale (the file no longer has the text, once).
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent.parent
COPIED = ("spade_cli", "configs", "tests", "scripts", "docs", "examples", "pyproject.toml")
LIBRARIES = ("captum.attr", "hydra", "pytest", "scipy.stats", "skimage", "sklearn", "torchvision")
ENDS = {0: "SURVIVED", 1: "killed", -signal.SIGKILL: "killed"}  # by pytest's exit code; others: nothing was tested
PATIENCE = 300  # seconds for the tests of one line: with some the broken program never ends


def main() -> None:
    """Break, run, print; exit code 1 where a line survived or is stale."""
    mutants = yaml.safe_load((HERE / "scripts" / "mutants.yaml").read_text(encoding="utf-8"))
    asked = [one for one in mutants if not sys.argv[1:] or any(word in f"{one[0]} {one[1]}" for word in sys.argv[1:])]
    for library in LIBRARIES:
        __import__(library)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        for name in COPIED:
            if (HERE / name).is_dir():
                shutil.copytree(HERE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(HERE / name, copy / name)
        for file, text, other, tests in asked:
            started = time.monotonic()
            ended = run_mutant(copy, copy / "spade_cli" / file, text, other, tests.split())
            found[ended] += 1
            print(f"{ended:<9} {time.monotonic() - started:5.0f} s  {file}: {text} -> {other}", flush=True)
    print(", ".join(f"{count} {ended}" for ended, count in sorted(found.items())))
    sys.exit(set(found) != {"killed"})


def run_mutant(copy: Path, path: Path, text: str, other: str, tests: list[str]) -> str:
    """Break one line of the copy, run its tests, and put it back: how that ended."""
    whole = path.read_text(encoding="utf-8")
    if whole.count(text) != 1:
        return "stale"
    path.write_text(whole.replace(text, other), encoding="utf-8")
    try:
        code = run_tests(copy, tests)
        return ENDS.get(code, f"exit code {code}: no answer")
    finally:
        path.write_text(whole, encoding="utf-8")


def run_tests(copy: Path, tests: list[str]) -> int:
    """The exit code of pytest in a fork of this process, which must not have imported the package."""
    child = os.fork()
    if child == 0:
        os.setsid()  # so that what the tests start ends with them
        os.chdir(copy)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.dont_write_bytecode = True  # it might be taken for that of the line put back within the same second
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)
        code = 99
        try:
            import pytest

            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]))
        finally:
            os._exit(code)
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


if __name__ == "__main__":
    main()
