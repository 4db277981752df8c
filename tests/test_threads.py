"""threads=N holds for one command, and what the user chose for OpenMP stays."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch

from spade_cli.cli import main
from spade_cli.cli.threads import COUNTS, SPIN, TURNS, limit_threads

SHOW = """
import os
from spade_cli.cli.threads import limit_threads, wait_politely
wait_politely()
with limit_threads(["image=a.png", "threads=1"]) as words:
    import torch
    print(words, torch.get_num_threads(), os.environ["GOMP_SPINCOUNT"], os.environ.get("OMP_WAIT_POLICY"))
"""


def show(environment: Mapping[str, str]) -> str:
    """What a new process, which has not loaded torch yet, makes of `threads=1`."""
    clean = {key: value for key, value in os.environ.items() if key not in (*COUNTS, SPIN, "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_new_process_computes_with_so_many_threads_and_spins_for_a_while_only() -> None:
    assert show({}) == f"['image=a.png'] 1 {TURNS} None"


def test_what_the_user_set_for_openmp_stays() -> None:
    assert show({SPIN: "7"}) == "['image=a.png'] 1 7 None"
    assert show({"OMP_NUM_THREADS": "2"}).split()[1] == "1"  # the command line is nearer than the environment


def test_a_wait_policy_of_the_users_own_is_not_mixed_with_ours() -> None:
    with pytest.raises(subprocess.CalledProcessError):  # there is no GOMP_SPINCOUNT to show
        show({"OMP_WAIT_POLICY": "PASSIVE"})


def test_threads_hold_for_one_command_only() -> None:
    before, environment = torch.get_num_threads(), {name: os.environ.get(name) for name in COUNTS}
    with limit_threads(["threads=3", "x=1", "threads=2"]) as words:  # the last one counts
        assert words == ["x=1"]
        assert torch.get_num_threads() == 2 and os.environ["OMP_NUM_THREADS"] == "2"
    assert torch.get_num_threads() == before
    assert {name: os.environ.get(name) for name in COUNTS} == environment


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "99999"])
def test_a_number_that_makes_no_sense_is_one_line(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", f"threads={value}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"spade: threads={value}") and "whole number" in error and error.count("\n") == 1


def test_every_verb_takes_threads(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("run", "open", "export", "tune"):
        assert main([verb, "threads=1", "--help"]) == 0
        assert "threads=N" in capsys.readouterr().out
