"""The house: imports run one way, files say what they are for and stay short, Hydra stays at the door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spade_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 300

# The reading order: a room may import the rooms before it. Rooms are folders, or files that stand alone.
ORDER = (
    *("version", "errors", "records", "files", "devices", "progress", "cache", "user_functions", "sizes"),
    *("networks", "models", "images"),  # what is explained: any torch network, a classifier, a picture
    *("pruning", "interpretation"),  # the two halves of the method, which never import each other
    *("report", "run", "inspection"),  # one run, and what can be made of it afterwards
    *("world", "trojans", "evaluation", "tuning", "batch"),  # known answers, measures, many images
    "cli",
)


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> set[str]:
    """Dotted names of everything the file imports, anywhere in it."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_imported(file: Path) -> set[str]:
    names = {name for name in imports_of(file) if name.startswith("spade_cli.")}
    return {name.split(".")[1] for name in names} & set(ORDER)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_one_way(file: Path) -> None:
    part = part_of(file)
    if part in ("__init__", "__main__"):  # the public names and the way in, which come after everything
        return
    assert part in ORDER, f"{part} has no place in the reading order"
    later = {other for other in parts_imported(file) if ORDER.index(other) > ORDER.index(part)}
    assert not later, f"{part} imports {later}, which come after it"


def test_pruning_and_interpretation_do_not_know_each_other() -> None:
    for file in (PACKAGE / "interpretation").rglob("*.py"):
        assert "pruning" not in parts_imported(file), file
    for file in (PACKAGE / "pruning").rglob("*.py"):
        assert "interpretation" not in parts_imported(file), file


def test_only_the_command_line_knows_hydra() -> None:
    for file in FILES:
        if part_of(file) != "cli":
            assert not {name.split(".")[0] for name in imports_of(file)} & {"hydra", "omegaconf"}, file


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_first_line_says_what_the_file_is_for(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith('"""') and len(first) > 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_sitting(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_no_drawers() -> None:
    drawers = ("utils", "helpers", "base", "manager", "common", "misc")
    assert not [file for file in FILES if any(word in file.stem for word in drawers)]
