"""What mkdocs needs to know of this repository: pages and pictures that lie outside docs/, and links to them.

The pages are written for the forge: README.md links to docs/scale.md, docs/world.md to ../examples/world.jpg. On the
site, README.md is index.md, and the root's pages and the pictures lie beside those of docs/.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    **{name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "RELEASING.md")},
}
PICTURES = "examples"
LINK = re.compile(r"(\]\(|src=\")([^)\"\s:]+)(?=[)\"])")


def on_startup(**_: Any) -> None:
    """No warning of a progress bar that the tutorial's notebook does not show."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


def on_files(files: Files, config: Any) -> Files:
    """Add the root's pages and the pictures."""
    for name, target in ROOT_PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / name).read_text(encoding="utf-8")))
    for picture in sorted((ROOT / PICTURES).iterdir()):
        files.append(File.generated(config, f"{PICTURES}/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are on the site."""
    place = page.file.src_uri
    home = "" if place in ROOT_PAGES.values() else f"docs/{Path(place).parent.as_posix()}"
    return LINK.sub(lambda match: match[1] + move_link(match[2], home, Path(place).parent.as_posix()), markdown)


def move_link(link: str, home: str, place: str) -> str:
    """A link of a page in the repository's folder `home`, as it is from the site's folder `place`.

    >>> move_link("../../examples/world.jpg", "docs/how-to", "how-to")
    '../examples/world.jpg'
    >>> move_link("docs/world.md#the-network", "", ".")
    'world.md#the-network'
    """
    path, hash_, anchor = link.partition("#")
    if not path:
        return link
    parts: list[str] = []
    for part in (*home.split("/"), *path.split("/")):
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    target = "/".join(parts[1:] if parts[0] == "docs" else parts)
    target = ROOT_PAGES.get(target, target)
    up = "../" * len([part for part in place.split("/") if part not in ("", ".")])
    return f"{up}{target}{hash_}{anchor}"
