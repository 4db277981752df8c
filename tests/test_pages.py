"""The pages say what is there: files, functions, classes, settings, folders and links that they name exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE, CONFIGS = ROOT / "spade_cli", ROOT / "configs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CODE_PAGES = [ROOT / "docs" / "design.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "glossary.md"]
GROUPS = {folder.name for folder in CONFIGS.iterdir() if folder.is_dir()} | {"calibration"}
WIDTH = 120


@cache
def definitions(file: Path) -> set[str]:
    """Functions, classes, methods and fields of a file: `find`, `Trace`, `Trace.layers`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            fields = [part.target.id for part in node.body if isinstance(part, ast.AnnAssign)]
            methods = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}.{name}" for name in [*fields, *methods])}
    return found


@cache
def all_definitions() -> set[str]:
    return set().union(*(definitions(file) for file in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]))


@cache
def settings() -> set[str]:
    """Dotted keys of every YAML file, with the group in front."""

    def keys(node: object, before: tuple[str, ...]) -> set[str]:
        if not isinstance(node, dict):
            return set()
        return {".".join([*before, str(key)]) for key in node}.union(
            *(keys(value, (*before, str(key))) for key, value in node.items())
        )

    found = set()
    for file in CONFIGS.rglob("*.yaml"):
        group = () if file.parent == CONFIGS else (file.parent.name,)
        found |= keys(yaml.safe_load(file.read_text(encoding="utf-8")), group)
    return found


def file_of(name: str) -> Path | None:
    """The file or folder that a page means: from the root or from the package."""
    return next((base / name for base in (ROOT, PACKAGE) if (base / name).exists()), None)


def code(page: Path) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path) -> None:
    paths = [text for text in code(page) if re.fullmatch(r"[\w./-]+(/|\.(py|yaml|md|svg|toml))", text)]
    assert paths and not [text for text in paths if file_of(text) is None and "mine" not in text]


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda page: page.name)
def test_functions_and_classes_exist(page: Path) -> None:
    names = [text.removesuffix("()") for text in code(page) if re.fullmatch(r"[A-Za-z_][\w.]*\(\)", text)]
    names += [text for text in code(page) if re.fullmatch(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*(\.\w+)?", text)]
    assert not [name for name in names if name not in all_definitions() | {"DataParallel"}]


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda page: page.name)
def test_names_after_a_file_are_in_that_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, member in re.findall(r"`([\w./-]+\.py)`:? `([\w.]+)(?:\(\))?`", text):
        file = file_of(name)
        assert file is not None and (not file.suffix or member in definitions(file)), f"{name} has no {member}"


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    keys = [text for text in code(page) if re.fullmatch(r"[a-z]\w*(\.[a-z]\w*)+", text)]
    assert not [key for key in keys if key.split(".")[0] in GROUPS and key not in settings()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert not [link for link in links if "://" not in link and not (page.parent / link.split("#")[0]).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_is_reached_from_the_readme(page: Path) -> None:
    together = "".join(other.read_text(encoding="utf-8") for other in PAGES if other != page)
    assert page.name == "README.md" or page.name == "CHANGELOG.md" or page.name in together


def test_every_folder_is_named() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w./]+)/` \|", text, re.MULTILINE))
    there = {ROOT / name for name in ("configs", "docs", "examples", "scripts", "tests", "spade_cli")}
    there |= {file.parent for file in PACKAGE.rglob("*.py")} | {file.parent for file in CONFIGS.rglob("*.yaml")}
    there |= {PACKAGE / "report" / "templates"}
    assert named == {str(folder.relative_to(ROOT)) for folder in there}


@pytest.mark.parametrize("page", [*CODE_PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_prose_fits_the_width(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert not [
        line for line in lines if len(line) > WIDTH and not line.startswith(("|", "![", "    ")) and "](" not in line
    ]
