"""docs/benchmarks.md, section by section: each script rewrites its own and leaves the others as they are."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

The command above each table writes it. *Published* is a plain transcription of the published procedure
(`scripts/published.py`), run in the same process. Ratios are within one run; seconds vary from run to run.
"""


def write_section(name: str, command: str, text: str) -> None:
    """Put a section into the page, in place of the one of that name or at its end."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else HEAD
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{start}\n\n    {command}\n\n{machine()}\n\n{text.strip()}\n\n{end}"
    if start in page:
        page = re.sub(re.escape(start) + ".*?" + re.escape(end), lambda _: section, page, flags=re.DOTALL)
    else:
        page = f"{page.rstrip()}\n\n{section}\n"
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    print(text, flush=True)


def machine() -> str:
    """One line about where this ran."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*: (.*)", info.read_text())
        processor = found[1] if found else processor
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    return f"{date.today():%Y-%m-%d}, {processor}, {threads}, torch {torch.__version__}."


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
