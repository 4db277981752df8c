"""Progress: every stage that can take long knows its steps, so that its bar has a time left."""

import ast
import io
import re
from pathlib import Path

from rich.console import Console

from spade_cli.progress import Stages, count_percents

PACKAGE = Path(__file__).parents[1] / "spade_cli"
SHORT = {  # stages without a total, and why they have none
    "load": "a second or two, or a download, which has a bar of its own",
    "augment": "a second",
    "report": "a second",
    "gallery": "a second",
    "visualize": "of spade toy: seconds",
}
QUIET = "sweep_image.py"  # its stages are timed within a worker, and shown to nobody


def test_every_long_stage_has_a_total() -> None:
    found = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "stage":
                name = ast.literal_eval(node.args[0])
                found.setdefault(name, []).append(any(word.arg == "total" for word in node.keywords))
                assert found[name][-1] or name in SHORT or file.name == QUIET, f"{file}: {name} shows no time left"
    assert set(SHORT) <= set(found) and found["examine"] == found["sparse_fc"] == [True]


def test_a_bar_on_a_terminal_has_the_time_left_and_a_pipe_a_line() -> None:
    screen, pipe = io.StringIO(), io.StringIO()
    stages = Stages(Console(file=screen, force_terminal=True, width=100))
    with stages.stage("prune", total=4) as advance:
        advance(1)
        advance(2)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert re.search(r"prune .*75%.*left +(0:00:0\d|-:--:--)", shown) and stages.seconds.keys() == {"prune"}
    with Stages(Console(file=pipe)).stage("prune", total=4) as advance:
        advance(4)
    assert re.fullmatch(r"prune +\d+\.\d s\n", pipe.getvalue())


def test_percents_add_up_to_a_hundred_whatever_the_steps() -> None:
    for steps in (1, 7, 128, 1000):
        moved: list[int] = []
        on_step = count_percents(moved.append)
        for step in range(1, steps + 1):
            on_step(step, steps)
        assert sum(moved) == 100
