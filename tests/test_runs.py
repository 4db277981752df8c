"""Runs found, listed, opened, compared and looked into, as a user does it: from an empty folder, by command."""

import json
import os
import re
import shutil
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from browser import PHONE, opened, overflows

from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.inspection.compare_traces import CARRIED, check_same_network, find_carriers, measure_overlaps
from spade_cli.inspection.rank_channels import choose_layers
from spade_cli.records import LayerRecord
from spade_cli.report.channel_pages import Overlap
from spade_cli.report.runs import find_runs
from spade_cli.world.demo import PICTURE

QUICK = ["augmentation.samples=8", "interpreter=saliency", "interpreter.methods=[saliency]", "model=demo"]
LAYERS = "schedule.layers={layer4.5.*: 0.95, fc: 0.5}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of one network: the demo's picture, and itself mirrored, which is found by its name."""
    from PIL import Image, ImageOps

    place, before = tmp_path_factory.mktemp("runs"), Path.cwd()
    os.chdir(place)
    try:
        shutil.copy(PICTURE, "one.png")
        ImageOps.mirror(Image.open(PICTURE)).save("two.png")
        for name in ("one.png", "two.png"):
            assert main(["run", f"image={name}", "schedule=none", LAYERS, *QUICK]) == 0
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_list_says_what_the_summaries_say(here, capsys):
    assert main(["list"]) == 0
    header, one, two = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["run", "target", "dense"] and "-one " in one and "-two " in two
    assert main(["list", "out=outputs", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = json.loads((here / rows[0]["run"] / "summary.json").read_text(encoding="utf-8"))
    assert rows[0]["kl"] == found["fidelity"]["kl"] and rows[0]["sparsity"] == found["sparsity"]["achieved"]
    assert [row["image"] for row in rows] == ["one.png", "two.png"]


def test_what_is_not_kept_is_not_written_and_missed_with_its_reason(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", f"image={folder / 'one.png'}", "schedule=none", LAYERS, *QUICK, "keep=[]"]) == 0
    (run,), captured = find_runs(tmp_path / "outputs"), capsys.readouterr()
    assert f"overview  {run.relative_to(tmp_path) / 'overview.png'}\n" in captured.err
    full = find_runs(folder / "outputs")[0]
    names = [{path.relative_to(one) for path in one.rglob("*")} for one in (full, run)]
    assert names[0] - names[1] == {Path("trace.safetensors"), Path("report.html")} and names[1] < names[0]
    for words, missed in ((["open"], "report"), (["export", str(run), "out=x.pth"], "trace"), (["neurons"], "trace")):
        assert main(words) == 2
        message = capsys.readouterr().err
        assert "keep=[" in message and missed in message and message.count("\n") == 1


def test_open_shows_the_latest_or_the_named(here, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(webbrowser, "open", lambda address: shown.append(address) or True)
    assert main(["open"]) == 0 == main(["open", "one"])
    two, one = (Path(line) for line in capsys.readouterr().out.splitlines())
    assert two.parent.name.endswith("-two") and one.parent.name.endswith("-one") and one.name == "report.html"
    assert shown == [two.resolve().as_uri(), one.resolve().as_uri()]
    assert main(["open", str(one.parent), "--print"]) == 0 and len(shown) == 2
    assert capsys.readouterr().out == f"{one}\n"
    shutil.copytree(one.parent, "single/2026-01-31/one")
    assert main(["open", "single", "--print"]) == 0, "a folder with one run in it is that run"
    assert capsys.readouterr().out == f"{Path('single/2026-01-31/one/report.html')}\n"
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert main(["open"]) == 0 and "no browser" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["open", "three"], "no run in outputs has three in its name"),
        (["open", "out=nowhere"], "nowhere holds no run"),
        (["open", "outputs"], "outputs holds no summary.json"),
        (["list", "out=nowhere"], "no such folder"),
        (["neurons", "one", "layers=conv9"], "conv9 matches no layer"),
        (["neurons", "one", "top=0"], "top=0"),
        (["neurons", "one", "edges=0"], "edges=0 is not a whole number of at least 1"),
        (["neurons", "one", "relevance=maybe"], "relevance=maybe is unknown; there are true, false"),
        (["neurons", "one", "steps=many"], "steps=many is not a whole number"),
        (["diff", "one"], "RUN"),
        (["diff", "one", "two", "out=one.png"], "one.png exists already"),
        (["diff", "one", "two", "out=no/where.html"], "there is no folder no"),
    ],
)
def test_mistakes_are_one_line(here, capsys, arguments, says):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error


OLDER = [  # (as it was written once, as it is written, what is said of it)
    (["list", "outputs"], ["list", "out=outputs"], "write out=outputs; a bare folder"),
    (["open", "one", "--print", "--output", "outputs"], ["open", "one", "--print"], "write out=outputs; --output"),
    (["export", "one", "t.pth", "--force"], ["export", "one", "out=t.pth", "--force"], "write out=t.pth; a bare file"),
    (
        ["neurons", "one", "--top", "1", "--steps=1", "--layers", "fc", "layer4.5.conv2"],
        ["neurons", "one", "top=1", "steps=1", "layers=[fc,layer4.5.conv2]"],
        "write top=1 steps=1 layers=fc,layer4.5.conv2; --top is an older way",
    ),
    (
        ["diff", "one", "two", "--output", "outputs/..", "--out", "d.html", "steps=1", "--force"],
        ["diff", "outputs/one", "outputs/two", "out=d.html", "steps=1", "--force"],
        "write outputs/../one; output is an older way to say where the runs are",
    ),
]


@pytest.mark.parametrize(("older", "newer", "says"), OLDER, ids=lambda words: " ".join(words[:1]))
def test_older_spellings_do_the_same_and_say_so(here, capsys, older, newer, says):
    assert main(older) == 0
    answer, told = capsys.readouterr()
    assert says in told and told.count("is an older") == told.count("hint: ") <= 2
    assert main([*newer, "--quiet"]) == 0
    assert capsys.readouterr() == (answer, "")
    assert main([*newer, "--json", "-q"]) == 0
    for line, row in zip(answer.splitlines()[newer[0] == "list" :], capsys.readouterr().out.splitlines(), strict=True):
        assert next(iter(json.loads(row).values())) == line.split(" ")[0]


def test_a_run_is_named_by_a_part_of_its_name_in_any_folder(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["open", f"{here}/outputs/on", "--print"], ["open", "on", f"out={here}/outputs", "--print"]):
        assert main(words) == 0
        assert Path(capsys.readouterr().out.strip()).parent.name.endswith("-one")
    assert main(["open", f"{here}/outputs/three", "--print"]) == 2
    assert "has three in its name" in capsys.readouterr().err


def test_old_and_damaged_runs_are_told(here, capsys, tmp_path):
    one = next((here / "outputs").glob("*/*-one"))
    old = shutil.copytree(one, tmp_path / "old")
    (old / "report.html").unlink()
    assert main(["open", str(old)]) == 2 and "make the run again" in capsys.readouterr().err
    (old / "image.png").unlink()
    assert main(["neurons", str(old)]) == 2 and "make the run again" in capsys.readouterr().err
    other = shutil.copytree(one, tmp_path / "other")
    config = (other / "config.yaml").read_text(encoding="utf-8")
    (other / "config.yaml").write_text(config.replace("name: demo", "name: squeezenet1_1").replace("demo_cl", "cl"))
    assert main(["neurons", str(other)]) == 2 and capsys.readouterr().err.count("\n") == 1
    (other / "summary.json").write_text("{}")
    assert main(["list", f"out={tmp_path}"]) == 2 and "not of a run" in capsys.readouterr().err


def test_neurons_ranks_what_carries_the_answer(here, capsys):
    assert main(["neurons", "one", "top=2", "steps=2", "layers=[layer4.5.conv2,fc]"]) == 0
    page = here / capsys.readouterr().out.strip()
    found = json.loads((page.parent / "neurons.json").read_text(encoding="utf-8"))
    target = found["target"]["index"]
    assert [one["layer"] for one in found["neurons"]] == ["layer4.5.conv2"] * 2 + ["fc"]
    assert [one["rank"]["trace"] for one in found["neurons"]] == [1, 2, 1]
    assert (found["neurons"][-1]["channel"], found["neurons"][-1]["share"]["trace"]) == (target, 1.0)
    with opened(page, viewport=PHONE) as shown:
        assert shown.locator("article.neuron").count() == 3 and not overflows(shown)
        assert shown.locator("article.neuron h3").all_inner_texts()[0] == found["target"]["label"]
        assert shown.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_neurons_shows_which_channels_feed_which(here, scheme, capsys):
    words = ["neurons", "one", "top=2", "steps=1", "layers=[layer3.*.conv1,layer4.5,fc]", "edges=1", "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    page = here / answer["page"]
    found = json.loads((page.parent / "neurons.json").read_text(encoding="utf-8"))
    assert answer["circuit"] == found["circuit"] and found["circuit"]["rule"] == "lrp" and found["notes"] == []
    edges, shown = found["circuit"]["edges"], {f"{one['layer']}:{one['channel']}": one for one in found["neurons"]}
    receivers = [edge["to"] for edge in edges if edge["to"]]
    assert len(set(receivers)) == len(receivers) > 0, "one edge into each"
    assert all(0 < share <= 1.001 for edge in edges for share in edge["share"].values())
    last = {edge["from"]: edge["share"] for edge in edges if edge["to"] is None}
    assert len(last) == 2 and all(name.startswith("layer4.5:") for name in last), "fc's channel is the answer itself"
    assert all(share == pytest.approx(shown[name]["relevance"], abs=1e-4) for name, share in last.items())
    assert found["circuit"]["passing"]["layer4.5"] == pytest.approx(1, abs=1e-3)
    with opened(page, viewport=PHONE, color_scheme=scheme) as browser:
        assert browser.locator(".circuit path.edge").count() == len(edges) and not overflows(browser)
        assert browser.locator(".circuit image").count() == 2 * browser.locator(".circuit a").count()
        for link in browser.locator(".circuit a").all():
            assert browser.locator(f'[id="{link.get_attribute("href")[1:]}"]').count() == 1
        assert browser.locator("article img.read").count() == 2 * len(shown)
        told = browser.locator(".circuit path.edge title").first.text_content()
        assert "of what" in told and "on the dense network" in told
    assert main([*words, "relevance=false"]) == 0
    assert json.loads(capsys.readouterr().out)["circuit"] is None
    assert "circuit" not in re.sub(r"<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.S)


def test_neurons_takes_the_dense_half_from_the_cache(here, tmp_path, capsys):
    pages = []
    for cache in ("null", tmp_path, tmp_path):
        assert main(["neurons", "one", "top=1", "steps=2", "layers=fc", f"cache={cache}"]) == 0
        pages.append((here / capsys.readouterr().out.strip()).read_text(encoding="utf-8"))
    assert main(["cache", f"folder={tmp_path}", "--json"]) == 0
    (kept,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert kept["network"] == "demo" and kept["targets"].startswith("fc:") and kept["steps"] == "2"
    pictures = [re.findall(r"data:image/[^\"'\s)]+", page) for page in pages]
    assert pictures[0] and pictures[0] == pictures[1] == pictures[2]


def test_taking_the_first_channel_away_costs_the_answer_more_than_taking_a_late_one(here):
    from spade_cli.cli.config.model import source_of_run
    from spade_cli.inspection.rank_channels import rank_channels
    from spade_cli.inspection.reopen import reopen
    from spade_cli.report.runs import find_run

    folder = find_run("one", Path("outputs"))
    run = reopen(folder, source_of_run(folder))
    ranked = rank_channels(run, ["layer4.5.conv2"], 20)

    def without(channel):
        layer = run.trace.get_submodule("layer4.5.conv2")
        handle = layer.register_forward_hook(lambda module, inputs, output: silence(output, channel))
        with torch.no_grad():
            logit = float(run.trace(run.x)[0, run.question.index])
        handle.remove()
        return logit

    assert without(ranked[0].channel) < without(ranked[-1].channel)


def silence(output, channel):
    output = output.clone()
    output[:, channel] = 0
    return output


def test_diff_counts_what_both_kept(here, capsys):
    from spade_cli.cli.config.model import source_of_run
    from spade_cli.inspection.reopen import reopen
    from spade_cli.report.runs import find_run

    folders = {"A": find_run("one", Path("outputs")), "B": find_run("two", Path("outputs"))}
    runs = {name: reopen(folder, source_of_run(folder)) for name, folder in folders.items()}
    found = {one.layer: one for one in measure_overlaps(runs)}
    assert set(found) == {"layer4.5.conv1", "layer4.5.conv2", "fc"}
    for layer, one in found.items():
        kept = [run.trace.get_parameter(f"{layer}.weight") != 0 for run in runs.values()]
        assert one.share == pytest.approx(float((kept[0] & kept[1]).sum() / (kept[0] | kept[1]).sum()))
    assert main(["diff", "one", "two", "steps=2", "out=both.html"]) == 0
    page = here / capsys.readouterr().out.strip()
    with opened(page, color_scheme="dark", viewport=PHONE) as shown:
        assert shown.locator(".overlap tbody tr").count() == 3 and not overflows(shown)
    assert main(["diff", "one", "one", "steps=2", "out=same.html"]) == 0
    assert "None: what carries the answer here carries it there as well" in Path("same.html").read_text("utf-8")


def test_overlap_by_chance_is_that_of_random_masks():
    generator = np.random.default_rng(0)
    one, two = generator.random((2, 100_000)) < np.array([[0.3], [0.1]])
    measured = (one & two).sum() / (one | two).sum()
    expected = Overlap("x", 100_000, {"A": int(one.sum()), "B": int(two.sum())}, 0).chance
    assert expected == pytest.approx(measured, rel=0.05)
    assert Overlap("x", 10, {"A": 0, "B": 0}, 0).share == 1 == Overlap("x", 10, {"A": 0, "B": 0}, 0).chance


def test_carriers_are_the_fewest_that_hold_their_share():
    assert CARRIED == 0.8
    assert find_carriers(torch.tensor([1.0, 5.0, -9.0, 3.0, 1.0])) == [1, 3]
    assert find_carriers(torch.tensor([1.0, 1.0])) == [0, 1] and find_carriers(torch.tensor([-1.0, 0.0])) == []


def test_runs_of_different_networks_are_not_compared():
    def layer(shape):
        return LayerRecord("fc", "linear", shape, 12, 0.5, 0.5)

    def run(shape):
        return SimpleNamespace(summary=SimpleNamespace(model=SimpleNamespace(name="net"), layers=[layer(shape)]))

    check_same_network({"A": run((3, 4)), "B": run((3, 4))})
    with pytest.raises(UserError, match="different networks"):
        check_same_network({"A": run((3, 4)), "B": run((4, 4))})


def test_the_last_pruned_layers_that_are_called_are_looked_into():
    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(12)))
    names = [str(i) for i in range(12)] + ["attention.in_proj"]  # a weight that no module is called for
    even = names[:12:2]
    layers = [
        LayerRecord(one, "linear", (3, 3), 9, 0, 0, left="its share is 0" if one in even else None) for one in names
    ]
    run = SimpleNamespace(
        summary=SimpleNamespace(layers=layers), classifier=SimpleNamespace(model=model), x=torch.zeros(1, 3)
    )
    assert choose_layers(run, []) == ["5", "7", "9", "11"]
    assert choose_layers(run, ["1*"]) == ["1", "10", "11"] and choose_layers(run, ["*"])[-1] == "11"
    with pytest.raises(UserError, match="matches only layers that the network never calls"):
        choose_layers(run, ["attention*"])


def test_networks_with_attention_are_looked_into_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = ["model=python", "model.factory=networks:attentive", "model.size=32", *QUICK[:-1]]
    layers = "schedule.layers={attention.in_proj: 0.5, head: 0.5}"
    for seed in (0, 1):
        assert main(["run", f"image={PICTURE}", f"seed={seed}", "schedule=none", layers, *model]) == 0
    one, two = map(str, find_runs(Path("outputs")))
    capsys.readouterr()
    assert main(["neurons", one, "top=1", "steps=2"]) == 0
    found = json.loads((Path(one) / "neurons.json").read_text(encoding="utf-8"))
    assert {neuron["layer"] for neuron in found["neurons"]} == {"head"}
    assert main(["diff", one, two, "top=1", "steps=2"]) == 0
    assert "attention.in_proj" in Path("diff.html").read_text(encoding="utf-8")
