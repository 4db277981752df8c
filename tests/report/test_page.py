"""report.html: its words, its numbers and how it behaves in a real browser."""

import base64
import json
import re
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest
from browser import PHONE, opened, overflows
from PIL import Image

from spade_cli.records import Fidelity, Trial
from spade_cli.report import sentences
from spade_cli.report.pictures import heat
from spade_cli.report.render import as_json, percent
from spade_cli.report.run_page import LARGEST, pack, write_report
from spade_cli.report.summary import Target, read_summary, write_summary
from spade_cli.run import pipeline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A real run of the demo, with a method that was skipped and one map that is flagged."""
    return made_run(tmp_path_factory.mktemp("outputs"))


def made_run(output):
    from test_run import request

    from spade_cli import interpretation
    from spade_cli.models import ModelSource
    from spade_cli.world.demo import PICTURE

    def cannot(*_):
        raise interpretation.CannotExplain("no rule for <b>it</b>")

    methods = {name: interpretation.METHODS[name] for name in ("saliency", "input_x_gradient", "guided_backprop")}
    settings = dict(model=ModelSource(None, factory="spade_cli.world.network:demo_classifier"))
    settings["layer_shares"] = {"layer4.*": 0.95, "fc": 0.5}
    settings |= dict(saliency=methods | {"lrp": cannot}, visualization_targets=(), sample_count=16)
    settings |= dict(schedule=lambda layers, level: {layer.name: 0.0 for layer in layers})
    return pipeline.run(request(PICTURE, output, **settings))


@pytest.fixture(scope="module")
def summary(run):
    return read_summary(run)


def unpacked(packed):
    """The format's definition, read slowly: strength and signed sum (H, W)."""
    raw = zlib.decompress(base64.b64decode(packed["data"]))
    count = packed["width"] * packed["height"]
    assert len(raw) == 3 * count
    step = [raw[i] + 256 * raw[count + i] for i in range(count)]
    balance = [(byte - 256 if byte > 127 else byte) / 127 for byte in raw[2 * count :]]
    strength = np.array([packed["max"] * (one / 4095) ** 2 for one in step])
    shape = packed["height"], packed["width"]
    return strength.reshape(shape), (strength * balance).reshape(shape)


def test_packed_maps_keep_three_digits_near_the_top_and_weak_values():
    generator = np.random.default_rng(0)
    raw = (10.0 ** generator.uniform(-4, 0, (3, 20, 30)) * generator.choice([-1, 1], (3, 20, 30))).astype(np.float32)
    strength, signed = unpacked(pack(raw))
    expected = np.abs(raw).sum(0)
    assert np.abs(strength / expected - 1).max() < 0.03 and np.abs(signed - raw.sum(0)).max() < 0.005 * expected.max()
    top = expected > expected.max() / 2
    assert np.abs(strength / expected - 1)[top].max() < 0.0005


def test_empty_and_large_maps_are_packed():
    assert not unpacked(pack(np.zeros((3, 4, 4), np.float32)))[0].any()
    large = np.zeros((3, 4 * LARGEST, 2 * LARGEST), np.float32)
    large[:, :, :LARGEST] = 1
    packed = pack(large)
    assert (packed["height"], packed["width"]) == (LARGEST, LARGEST // 2)
    assert unpacked(packed)[0] == pytest.approx(np.repeat([[3, 0]], LARGEST // 4, 1).repeat(LARGEST, 0), abs=1e-3)


def test_the_page_stands_alone_and_is_small(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    outside = re.findall(r"""(?:src|href)=["']?(?!data:|#)([^"'> ]+)|url\((?!data:)""", page)
    assert all((run / name).is_file() for name in outside), "links lead to files of the run"
    assert "@import" not in page and not re.search(r"<(link|script)[^>]+(src|href)=.?http", page)
    assert len(page) < 1_000_000


def test_ten_maps_of_noise_stay_below_five_megabytes():
    raw = np.random.default_rng(0).normal(size=(3, LARGEST, LARGEST)).astype(np.float32)  # noise: the least to deflate
    assert 20 * len(pack(raw)["data"]) < 4_500_000


def test_words_say_what_was_found(run, summary):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Why bolt?" in page and summary.command in page and "no rule for &lt;b&gt;it&lt;/b&gt;" in page
    assert "The trace is" in page and "integrated" not in page
    said = replace(summary.prediction.trace, index=3, label="key", probability=0.5)
    fidelity = replace(summary.fidelity, same_prediction=False)
    changed = replace(summary, fidelity=fidelity, prediction=replace(summary.prediction, trace=said))
    assert sentences.judge_trace(summary)[0] == summary.fidelity.faithful
    faithful, verdict = sentences.judge_trace(changed)
    assert not faithful and "not faithful" in verdict and "says key (50%)" in sentences.tell_answers(changed)
    changed = replace(changed, target=Target(2, "bar"))
    assert "You asked about bar" in sentences.tell_answers(changed) and "You asked" not in sentences.tell_answers(
        summary
    )
    changed = replace(changed, fidelity=replace(fidelity, same_prediction=True, faithful=False))
    assert not sentences.judge_trace(changed)[0]


def test_percentages_do_not_say_all_or_none_where_it_is_not():
    shares = (0, 1, 0.5, 0.999, 0.9996, 0.999999, 1e-7, None)
    assert [percent(share) for share in shares] == (
        ["0%", "100%", "50%", "99.9%", "99.96%", "over 99.99%", "under 0.01%", "?"]
    )


def test_json_cannot_end_its_script():
    assert "<" not in as_json({"label": "</script><!--"}) and json.loads(as_json(["</a>"])) == ["</a>"]


def test_summaries_of_networks_without_maps_make_a_page(run, summary, tmp_path):
    write_summary(replace(summary, saliency=(), visualizations=(), flags=(), layers=()), tmp_path)
    Image.open(run / "image.png").save(tmp_path / "image.png")
    assert "No layer was pruned" in write_report(tmp_path).read_text(encoding="utf-8")


def test_image_png_is_what_the_network_saw(run, summary):
    from spade_cli.images.load import load_image
    from spade_cli.models import load_model
    from spade_cli.world.demo import PICTURE

    view = load_model(_demo()).preprocessing.view(load_image(PICTURE))[0]
    seen = np.asarray(Image.open(run / summary.image.view), np.float32) / 255
    assert np.array_equal(seen.transpose(2, 0, 1), view.numpy())


def _demo():
    from spade_cli.models import ModelSource

    return ModelSource(None, factory="spade_cli.world.network:demo_classifier")


def shown(page, index=0):
    """The colours of a map's canvas, (H, W, 4)."""
    data = page.evaluate(
        "i => { const c = document.querySelectorAll('.map canvas')[i];"
        "return [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] }",
        index,
    )
    return np.array(data[2:], np.uint8).reshape(data[1], data[0], 4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_draws_blends_and_reads(run, summary, tmp_path, scheme):
    with opened(run / "report.html", color_scheme=scheme, viewport={"width": 1280, "height": 900}) as page:
        page.wait_for_selector("html[data-drawn='6']")
        overlay = shown(page)
        page.fill("#blend", "0")
        assert not shown(page)[..., 3].any(), "the view alone"
        page.fill("#blend", "100")
        alone = shown(page)
        assert (alone[..., 3] == 255).all() and 0 < overlay[..., 3].mean() < 255
        heat = np.asarray(Image.open(run / "saliency/saliency_dense.png"), int)
        assert np.abs(alone[..., :3].astype(int) - heat).max() <= 12, "the map beside the page, to a step of packing"
        raw = {n: np.load(run / f"saliency/saliency_{n}.npy") for n in ("dense", "trace")}
        row, column = np.unravel_index(np.abs(raw["dense"]).sum(0).argmax(), raw["dense"].shape[1:])
        page.locator(".map").nth(0).scroll_into_view_if_needed()
        box = page.locator(".map").nth(0).bounding_box()
        page.mouse.move(box["x"] + (column + 0.5) * box["width"] / 128, box["y"] + (row + 0.5) * box["height"] / 128)
        read = [float(text) for text in page.locator(".value").all_inner_texts()[:2]]
        expected = [float(np.abs(raw[n][:, row, column]).sum()) for n in ("dense", "trace")]
        assert read == pytest.approx(expected, rel=0.03, abs=float(raw["dense"].max()) * 1e-3)
        page.screenshot(path=tmp_path / "report.png")
        background = Image.open(tmp_path / "report.png").convert("L").getpixel((3, 3))
        assert background > 200 if scheme == "light" else background < 60


def test_browser_keyboard_sign_and_brightness(run):
    with opened(run / "report.html", viewport=PHONE) as page:
        page.wait_for_selector("html[data-drawn='6']")
        assert not overflows(page)
        before = shown(page)[..., 3].mean()
        page.fill("#exposure", "2")
        assert shown(page)[..., 3].mean() > before and page.inner_text("#times") == "× 100"
        page.fill("#exposure", "0")
        page.check("input[value=sign]")
        raw = np.load(run / "saliency/input_x_gradient_dense.npy")
        row, column = 63, 65  # the map's middle is 64, 64
        page.locator(".map").nth(2).focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowRight")
        text = page.locator(".value").nth(2).inner_text().replace("−", "-")
        assert float(text) == pytest.approx(raw[:, row, column].sum(), abs=float(np.abs(raw).sum(0).max()) * 0.01)
        assert "column 65, row 63: dense" in page.inner_text("#announce")
        legends = page.locator(".legend .low").all_text_contents()
        assert legends[0] == "without sign: 0" and legends[1] == "against", "the size of a gradient has no sign"


def test_browser_draws_each_map_on_its_own_scale_or_both_on_one(run, summary):
    tops = {one.network: one.scale_top for one in summary.saliency if one.method == "saliency"}
    raw = {network: np.abs(np.load(run / f"saliency/saliency_{network}.npy")).sum(0) for network in tops}
    common = np.percentile(np.stack(list(raw.values())), 99.5)
    with opened(run / "report.html") as page:
        page.wait_for_selector("html[data-drawn='6']")
        page.fill("#blend", "100")

        def differences(expected):
            return [
                np.abs(shown(page, place)[..., :3] - np.asarray(heat(raw[network], expected[network]), int)).max()
                for place, network in enumerate(("dense", "trace"))
            ]

        assert max(differences(tops)) <= 12, "to a step of packing"
        legend = page.locator(".legend .high").nth(0)
        assert legend.inner_text() == f"dense {tops['dense']:.3g}, trace {tops['trace']:.3g} and above"
        page.check("input[value=common]")
        assert max(differences(dict.fromkeys(tops, common))) <= 12
        assert legend.inner_text() == f"{common:.3g} and above"


def test_browser_shows_plain_maps_at_a_click(run, summary, tmp_path):
    shutil.copytree(run, tmp_path / "smoothed")
    records, plain = [], {}
    for one in summary.saliency:
        if one.method == "saliency":
            plain[one.network] = 3 * np.load(run / one.array)[:, ::-1].copy()
            np.save(tmp_path / "smoothed" / "saliency" / f"{one.network}_plain.npy", plain[one.network])
            one = replace(one, samples=8, noise=0.1, plain=f"saliency/{one.network}_plain.npy")
        records.append(one)
    write_summary(replace(summary, saliency=tuple(records)), tmp_path / "smoothed")
    write_report(tmp_path / "smoothed")
    tops = {network: np.percentile(np.abs(raw).sum(0), 99.5) for network, raw in plain.items()}
    with opened(tmp_path / "smoothed" / "report.html") as page:
        page.wait_for_selector("html[data-drawn='6']")
        page.fill("#blend", "100")
        before, other = shown(page, 0), shown(page, 2)
        page.check("input[value=plain]")
        expected = np.asarray(heat(np.abs(plain["dense"]).sum(0), tops["dense"]), int)
        assert np.abs(shown(page, 0)[..., :3] - expected).max() <= 12, "to a step of packing"
        assert (shown(page, 2) == other).all(), "a method without a plain map keeps its mean"
        legend = page.locator(".legend .high").nth(0)
        assert legend.inner_text() == f"dense {tops['dense']:.3g}, trace {tops['trace']:.3g} and above"
        page.check("input[value=common]")
        assert legend.inner_text() == f"{max(tops.values()):.3g} and above"
        page.check("input[value=own]")
        page.check("input[value=mean]")
        assert (shown(page, 0) == before).all()
    assert 'value="plain"' not in (run / "report.html").read_text("utf-8"), "nothing to choose without smoothing"


def test_a_run_on_a_common_scale_begins_with_it(run, summary, tmp_path):
    shutil.copytree(run, tmp_path / "older")
    write_summary(
        replace(summary, saliency=tuple(replace(one, scale="common") for one in summary.saliency)), tmp_path / "older"
    )
    page = write_report(tmp_path / "older").read_text(encoding="utf-8")
    assert 'value="common" checked' in page and 'value="own" checked' in (run / "report.html").read_text("utf-8")


def test_the_page_says_that_maps_are_means_of_noisy_copies(summary):
    assert sentences.tell_means(summary) == ""
    records = [replace(one, samples=8, noise=0.1) if one.method != "saliency" else one for one in summary.saliency]
    said = sentences.tell_means(replace(summary, saliency=tuple(records)))
    assert "mean over 8 copies" in said and "10% of its range" in said and said.endswith("except saliency.")
    several = replace(summary, map_traces=(Trial({}, Fidelity(True, 1, 1, 0), True),) * 3)
    assert sentences.tell_means(several) == "The trace's map is the mean over 3 faithful traces."


def test_the_page_says_which_trace_a_visualization_is_of(summary):
    assert sentences.tell_visualized_trace(replace(summary, visualization_traces=())) == ""
    one = Trial({"head": 0.9, "layer4": 0.5}, Fidelity(True, 0.99, 0.93, 0.1), True)
    said = sentences.tell_visualized_trace(replace(summary, visualization_traces=(one,)))
    assert f"{summary.target.label} reads 10% of the channels" in said and said.endswith("probability of 93%.")
    several = sentences.tell_visualized_trace(replace(summary, visualization_traces=(one, one)))
    assert several == f"{said} 2 such traces are excited together."


def test_browser_prints_a_few_pages(run, tmp_path):
    with opened(run / "report.html") as page:
        page.wait_for_selector("html[data-drawn='6']")
        page.emulate_media(media="print")
        assert not page.is_visible("#controls") and page.is_visible(".map")
        assert page.pdf(print_background=False).startswith(b"%PDF")
