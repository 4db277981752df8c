"""Random command lines and damaged files: exit code 0, 1 or 2, one line for an error, and nothing half-written."""

import random
from pathlib import Path

import pytest
from fuzz_answers import give, judge
from fuzzing import Generator, Input, damage

from spade_cli.cli.config.read_yaml import read_command

SEED = 15


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator(tmp_path_factory.mktemp("fuzz") / "home", SEED)


def test_no_input_is_answered_wrongly(generator: Generator, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    problems = []
    codes = set()
    for number in range(request.config.getoption("fuzz")):
        given = generator.input(number)
        outcome = give(given, generator.home, tmp_path / "here")
        codes.add(outcome.code)
        if outcome.problem:
            problems.append(f"{number}: {given}\n{outcome.problem}")
    assert not problems, "\n\n".join(problems)
    assert codes >= {0, 2}, "some inputs are right, and most are not"


def test_the_same_seed_gives_the_same_inputs(generator: Generator) -> None:
    assert [generator.input(number) for number in range(50)] == [generator.input(number) for number in range(50)]
    assert len({str(generator.input(number)) for number in range(50)}) > 45


def test_every_option_comes_up(generator: Generator) -> None:
    words = " ".join(word for number in range(10_000) for word in generator.input(number).arguments)
    for verb in ("run", "batch", "eval", "tune", "implant"):
        own, groups = read_command(verb, [])
        names = [setting.key for setting in own] + [group.name for group in groups]
        assert not [name for name in names if f"{name}=" not in words]


WRONG = [  # an answer, and what is wrong with it
    (1, "", "spade: failed\nTraceback (most recent call last):\n", [], "a traceback"),
    (2, "", "spade: a\nspade: b\n", [], "not one line"),
    (2, "", "", [], "not one line"),
    (1, "", "spade: a\nmore of it\n", [], "not one line"),
    (3, "", "spade: a\n", [], "not 0, 1 or 2"),
    ("KeyError", "", "", [], "not 0, 1 or 2"),
    (0, "", "spade: a\n", [], "exit code 0"),
    (0, "", "UserWarning: a\n", [], "a warning"),
    (2, "half a table", "spade: a\n", [], "on stdout"),
    (2, "", "spade: a\n", ["outputs"], "left behind"),
    (1, "", "spade: a\n", ["outputs/.x.partial"], "left behind"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong[0]} {wrong[-1]}")
def test_a_wrong_answer_is_seen(wrong: tuple[object, str, str, list[str], str]) -> None:
    *answer, problem = wrong
    assert problem in judge(Input(("run",), {}), *answer)
    assert not judge(Input(("run",), {}), 2, "", "load 0.1 s\nspade: image=x: no such file\n", [])
    assert not judge(Input(("run",), {}), 0, "outputs/x\n", "load 0.1 s\n", ["outputs", "outputs/x"])
    assert not judge(Input(("list",), {}), 0, "", "spade: write out=x; a bare folder is an older way\n", [])


def test_no_input_knows_the_home_or_the_root_of_the_disk(generator: Generator, tmp_path: Path) -> None:
    words = {word for number in range(3000) for word in generator.input(number).arguments}
    assert not [word for word in words if word.partition("=")[2] == "/"]
    give(Input(("world", "out=~/made", "count=1"), {}), generator.home, tmp_path / "here")
    assert not Path("~/made").expanduser().exists()


def test_damage_comes_in_all_kinds() -> None:
    content = bytes(range(256)) * 8
    made = [damage(random.Random(seed), content) for seed in range(200)]
    assert content in made and b"" in made and content * 2 in made
    assert any(len(one) == len(content) and one != content for one in made)
    assert any(len(one) < len(content) and one and content.startswith(one) for one in made)
