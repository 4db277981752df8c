"""The site: it is built without a warning, lists every page, fetches nothing, and fits light, dark and a phone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser import PHONE, opened, overflows

from spade_cli.interpretation import METHODS

ROOT = Path(__file__).parents[1]
LOOKED_AT = ("index", "getting-started", "tutorial", "how-to/timm", "models", "commands", "api/index", "results")
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"https?://(?!localhost)[^\"]+\"")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. It takes half a minute, since the tutorial is run."""
    pytest.importorskip("material", reason="the extra docs is not installed")
    pytest.importorskip("mkdocs_jupyter")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "WARNING -" not in done.stderr, done.stderr[-3000:]
    return out


def list_pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav if isinstance(nav, list) else list(nav.values())  # type: ignore[attr-defined]
    return [page for entry in entries for page in list_pages(entry)]


def test_every_page_is_in_the_navigation() -> None:
    pages = list_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    docs = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    root = {page.name for page in ROOT.glob("*.md")} - {"README.md"} | {"index.md"}
    assert sorted(pages) == sorted(docs | root | {"tutorial.py"})


def test_every_saliency_method_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api" / "interpretation.md").read_text(encoding="utf-8")
    assert {
        name for name in METHODS if not re.search(rf"^::: spade_cli\.interpretation\.\S+\.{name}$", text, re.M)
    } == set()


def test_pages_are_whole(site: Path) -> None:
    pages = {
        str(page.relative_to(site).with_suffix("")): page.read_text(encoding="utf-8") for page in site.rglob("*.html")
    }
    assert len(pages) > 25 and set(LOOKED_AT) <= set(pages)
    for name, text in pages.items():
        assert not FETCHED.findall(text), f"{name} fetches from another host"
        assert "::: spade_cli" not in text and "&gt;&gt;&gt; " not in re.sub(
            r"<pre.*?</pre>", "", text, flags=re.DOTALL
        )
    tutorial = pages["tutorial"]
    assert tutorial.count("data:image/png;base64") >= 4 and "the network says bolt" in tutorial
    assert "Traceback" not in tutorial and "Warning" not in tutorial
    assert "samples" in pages["api/index"] and "gradient_shap" in pages["api/interpretation"]


@pytest.mark.parametrize("name", LOOKED_AT)
def test_pages_in_a_browser(site: Path, name: str) -> None:
    for context in ({}, {"color_scheme": "dark"}, {"viewport": PHONE}):
        with opened(site / f"{name}.html", **context) as page:
            assert page.locator("h1").count() == 1 and not overflows(page)
            broken = (
                "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
            )
            assert page.evaluate(broken) == []
            dark = page.evaluate("document.body.getAttribute('data-md-color-scheme')") == "slate"
            assert dark == (context.get("color_scheme") == "dark")
