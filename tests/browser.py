"""A real headless Chromium for the tests, where there is one; an error on its console is a failure."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = {"width": 390, "height": 844}


@contextmanager
def opened(path: Path, **context) -> Iterator:
    """The page of a file, shown; afterwards nothing was logged as an error and nothing was asked of a network."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    complaints, asked = [], []
    with playwright.sync_playwright() as driver:
        # Without its sandbox, which cannot be had as root in a container; the pages are our own.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_context(**context).new_page()
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(path.resolve().as_uri())
            yield page
        finally:
            browser.close()
    assert not complaints, complaints
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked


def overflows(page) -> bool:
    """Whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")
