"""index.html of a batch: real runs and many rows, filtered, sorted and clicked in a real browser."""

import json
import shutil

import pytest
from browser import PHONE, opened, overflows
from PIL import Image

from spade_cli.report.gallery_page import THUMBNAILS, write_gallery

COUNT = 5000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from test_page import made_run

    return made_run(tmp_path_factory.mktemp("outputs"))


def row(number, **changes):
    """A row as a batch writes it."""
    label = f"class {number % 7}"
    made = {
        "image": f"pictures/{number:05d}.png",
        "folder": f"runs/{number:05d} #é" if number < 3 else f"runs/{number:05d}",
        "status": "done",
        "target": {"index": number % 7, "label": label},
        "prediction": {name: {"label": label, "probability": 0.9} for name in ("dense", "trace")},
        "same_prediction": True,
        "agreement": (number * 37 % 101) / 100,
        "kl": 0.1,
        "sparsity": 0.5,
        "flags": [],
        "seconds": 1.5,
    }
    return {**made, **changes}


@pytest.fixture(scope="module")
def batch(run, tmp_path_factory):
    """Three folders of real runs and thousands of rows, some changed, flagged, failed, bare or torn."""
    folder = tmp_path_factory.mktemp("batch")
    rows = [row(number) for number in range(COUNT)]
    for number in range(3):
        shutil.copytree(run, folder / rows[number]["folder"])
    rows[3] |= {"same_prediction": False, "flags": ["the trace predicts another </script><b>class"]}
    rows[3]["prediction"]["trace"] = {"label": "a dog", "probability": 0.4}
    rows[4] = {"image": "broken.jpg", "status": "failed", "reason": "image=broken.jpg is truncated"}
    rows[5] = {"image": "bare.jpg", "folder": "nowhere", "pruner": "obs"}
    lines = [json.dumps(one) for one in rows] + [json.dumps(row(6, agreement=0.123)), '{"image": "torn']
    (folder / "index.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(batch):
    return write_gallery(batch)


def test_thumbnails_are_files_made_once(batch, page):
    thumbnails = sorted((batch / THUMBNAILS).iterdir())
    assert len(thumbnails) == 3 and Image.open(thumbnails[0]).size == (384, 128)
    assert thumbnails[0].stat().st_size < 20_000
    before = [path.stat().st_mtime_ns for path in thumbnails]
    write_gallery(batch)
    assert [path.stat().st_mtime_ns for path in thumbnails] == before
    assert page == batch / "index.html" and page.stat().st_size < 4_000_000


def test_browser_draws_filters_sorts_and_follows(batch, page):
    with opened(page, viewport={"width": 1280, "height": 900}) as shown:
        cards = shown.locator("li.run")
        assert shown.inner_text("#count") == "5,000 of 5,000" and cards.count() < 400, "a part is drawn"
        assert (
            "lines that cannot be read" in shown.inner_text("dl") and "the trace predicts" in cards.nth(3).inner_text()
        )
        assert "a dog 40%" in cards.nth(3).inner_text() and "is truncated" in cards.nth(4).inner_text()
        assert "agreement 12%" in cards.nth(6).inner_text(), "the newer row of an image"
        before = cards.count()
        shown.evaluate("scrollTo(0, document.body.scrollHeight)")
        shown.wait_for_function(f"document.querySelectorAll('li.run').length > {before}")
        for name, value, count in (("fidelity", "changed", 1), ("fidelity", "failed", 1)):
            shown.select_option(f"[name={name}]", value)
            assert cards.count() == count
        shown.select_option("[name=fidelity]", "")
        shown.check("[name=flagged]")
        assert cards.count() == 1
        shown.uncheck("[name=flagged]")
        shown.select_option("[name=target]", "class 2")
        expected = sum(number % 7 == 2 for number in range(COUNT))
        assert shown.inner_text("#count") == f"{expected} of 5,000"
        shown.select_option("[name=target]", "")
        shown.select_option("[name=sort]", "agreement")
        rows = [json.loads(line) for line in (batch / "index.jsonl").read_text("utf-8").splitlines()[:COUNT]]
        assert "agreement 0%" in cards.nth(0).inner_text()
        shown.check("[name=falling]")
        assert "agreement 100%" in cards.nth(0).inner_text() and max(r.get("agreement", 0) for r in rows) == 1
        shown.fill("[name=find]", "00001")
        cards.nth(0).locator("a").click()
        shown.wait_for_selector("html[data-drawn]")
        assert "Why bolt?" in shown.inner_text("h1")
        shown.go_back()
        shown.wait_for_selector("li.run")
        assert shown.inner_text("#count") == "1 of 5,000" and shown.is_checked("[name=falling]"), "as it was left"


def test_browser_on_a_phone_and_by_keyboard(page):
    with opened(page, viewport=PHONE, color_scheme="dark") as shown:
        assert not overflows(shown)
        shown.locator("li.run a").first.focus()
        shown.keyboard.press("Enter")
        shown.wait_for_selector("html[data-drawn]")


def test_settings_of_a_sweep_can_be_sorted_by(tmp_path):
    rows = [row(number, level=level) for number, level in enumerate((0.5, 0.9, 0.7))]
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    with opened(write_gallery(tmp_path)) as shown:
        shown.select_option("[name=sort]", "level")
        texts = shown.locator("li.run").all_inner_texts()
        assert [next(word for word in ("0.5", "0.7", "0.9") if f"level {word}" in text) for text in texts] == (
            ["0.5", "0.7", "0.9"]
        )


def test_a_batch_that_wrote_nothing_has_a_page(tmp_path):
    assert "images" in write_gallery(tmp_path).read_text(encoding="utf-8")
