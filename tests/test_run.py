"""One run from a picture to a folder: what is in it, that it is right, repeatable, and whole or not there."""

import json
import re
from functools import partial

import networks
import numpy as np
import pytest
import torch
from networks import DEVICE, photograph, small
from PIL import Image
from rich.console import Console
from run_requests import METHODS, request
from safetensors.torch import load_file

from spade_cli import interpretation
from spade_cli.cache import Cache
from spade_cli.errors import SpadeError, UserError
from spade_cli.images import augment
from spade_cli.interpretation import explainable
from spade_cli.models import ModelSource, Preprocessing
from spade_cli.progress import Stages
from spade_cli.report.checkpoint import export, load_trace
from spade_cli.report.explanations import write_visualization
from spade_cli.report.run_folder import slugs
from spade_cli.report.summary import read_summary
from spade_cli.run import pipeline
from spade_cli.run.explain import Note, explain_networks, merge_notes
from spade_cli.run.request import plan_request


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "héron (1)=x,.png"
    photograph().save(path)
    return path


@pytest.fixture(scope="module")
def finished(picture, tmp_path_factory):
    return pipeline.run(request(picture, tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def summary(finished):
    return json.loads((finished / "summary.json").read_text(encoding="utf-8"))


def test_folder_holds_what_the_summary_names(finished, summary):
    assert finished.name.endswith("-héron-1-x")
    named = {"summary.json", "trace.safetensors", "overview.png", "config.yaml", "run.log"}
    named |= {"report.html", summary["image"]["view"]}
    for record in summary["saliency"]:
        named |= {record["array"], record["picture"], record["overlay"]}
    named |= {record["picture"] for record in summary["visualizations"]}
    assert {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()} == named
    assert [path.name for path in finished.parent.iterdir()] == [finished.name], "no hidden folder is left"
    assert {record["target"] for record in summary["visualizations"]} == {"1-class 1", "conv2-4"}


def test_summary_says_what_was_done(summary, picture):
    assert summary["schema_version"] == 1 and summary["seed"] == 0 and summary["device"].startswith(DEVICE)
    assert summary["image"]["path"] == str(picture.resolve()) and summary["image"]["size"] == [48, 40]
    assert {record["method"] for record in summary["saliency"]} == set(METHODS) and summary["skipped"] == []
    layers = {layer["name"]: layer for layer in summary["layers"]}
    assert set(layers) == {"stem", "conv1", "conv2", "head"} and layers["stem"]["left"].startswith("stem")
    assert layers["conv1"]["achieved"] == 0.5 and layers["conv1"]["shape"] == [8, 8, 3, 3]
    assert summary["sparsity"]["weights_total"] == 3 * 8 * 9 + 2 * 8 * 8 * 9 + 8 * 5
    assert summary["sparsity"]["weights_kept"] == 3 * 8 * 9 + 8 * 8 * 9 + 4 * 5
    assert {"load", "augment", "calibrate", "prune", "saliency", "visualization", "total"} <= set(summary["seconds"])


def test_predictions_and_fidelity_are_those_of_the_networks(finished, summary, picture):
    trace = small()
    trace.load_state_dict(load_trace(finished / "trace.safetensors"))
    image = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)
    copies = augment.paper(image, 40, Preprocessing(size=32, resize=32), 0)
    with torch.no_grad():
        p, q = (network((copies / 255 - 0.5) / 0.2).log_softmax(1) for network in (small(), trace))
    assert summary["fidelity"]["agreement"] == pytest.approx(float((p.argmax(1) == q.argmax(1)).float().mean()))
    kl = (p.exp() * (p - q)).sum(1).mean()
    assert summary["fidelity"]["kl"] == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
    dense, traced = summary["prediction"]["dense"], summary["prediction"]["trace"]
    assert summary["target"]["index"] == dense["index"] and dense["probability"] == dense["target_probability"]
    assert summary["fidelity"]["same_prediction"] == (dense["index"] == traced["index"])


def test_maps_are_raw_and_each_picture_has_its_own_scale(finished, summary):
    records = {(record["method"], record["network"]): record for record in summary["saliency"]}
    for method in METHODS:
        dense, trace = (records[method, network] for network in ("dense", "trace"))
        assert dense["scale_top"] != trace["scale_top"] and dense["scale"] == trace["scale"] == "own"
        for record in (dense, trace):
            raw = np.load(finished / record["array"])
            assert raw.shape == (3, 32, 32) and raw.dtype == np.float32 and np.isfinite(raw).all() and raw.any()
            assert Image.open(finished / record["picture"]).size == (32, 32)
            assert record["scale_top"] == pytest.approx(np.percentile(np.abs(raw).sum(0), 99.5), rel=1e-5)
    assert abs(records["deeplift", "dense"]["checks"]["relative_delta"]) < 0.01
    assert not np.array_equal(
        *(np.load(finished / f"saliency/saliency_{network}.npy") for network in ("dense", "trace"))
    )


def test_a_second_run_takes_the_dense_visualizations_from_the_cache(finished, picture, tmp_path):
    asked = dict(cache=Cache(tmp_path / "kept"), saliency={})
    runs = [pipeline.run(request(picture, tmp_path / name, **asked)) for name in ("one", "two")]
    records = [read_summary(run).visualizations for run in (finished, *runs)]
    cached = [{one.network: one.cached for one in found} for found in records]
    assert cached == [{"dense": False, "trace": False}] * 2 + [{"dense": True, "trace": False}]
    for record in records[0]:
        first = (finished / record.picture).read_bytes()
        assert all((run / record.picture).read_bytes() == first for run in runs), record.picture


def test_same_request_same_bytes(finished, picture, tmp_path):
    again = pipeline.run(request(picture, tmp_path))
    for path in finished.rglob("*.npy"):
        assert path.read_bytes() == (again / path.relative_to(finished)).read_bytes(), path
    one, two = (load_trace(run / "trace.safetensors") for run in (finished, again))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_two_runs_in_the_same_second_get_two_folders(picture, tmp_path, monkeypatch):
    class Noon:
        @staticmethod
        def now():
            from datetime import datetime

            return datetime(2030, 1, 1, 12)

    monkeypatch.setattr("spade_cli.report.run_folder.datetime", Noon)
    quick = dict(saliency={}, visualize=None, sample_count=2)
    folders = [pipeline.run(request(picture, tmp_path, **quick)) for _ in range(3)]
    assert [folder.name for folder in folders] == ["12-00-00-héron-1-x" + suffix for suffix in ("", "-2", "-3")]


@pytest.mark.parametrize("error", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_failed_run_leaves_nothing(picture, tmp_path, error):
    def fails(*_):
        raise error

    with pytest.raises(type(error)):
        pipeline.run(request(picture, tmp_path / "new" / "outputs", saliency={"saliency": fails}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(target="zebra"), "zebra"),
        (dict(target=5), "0 to 4"),
        (dict(layer_shares={"conv9": 0.5}), "conv9 matches no layer"),
        (dict(visualization_targets=("conv9:1",)), "conv9"),
        (dict(visualization_targets=("conv2:8",)), "0 to 7|8 channels"),
        (dict(layer_shares={"conv1": 1.5}), "1.5 is not a share"),
        (dict(model=ModelSource(None, factory="user_outputs:ends_in_functional_softmax", size=32)), "softmax"),
        (dict(device="tpu"), "device=tpu"),
        (dict(device="cuda:99"), "device=cuda:99"),
    ],
)
def test_users_mistakes_come_before_anything_is_written(picture, tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        pipeline.run(request(picture, tmp_path / "outputs", **changes))
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_made_is_the_users_mistake(picture, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="out="):
        pipeline.run(request(picture, tmp_path / "file" / "outputs"))


def test_changed_prediction_is_flagged_first(picture, tmp_path):
    run = pipeline.run(request(picture, tmp_path, layer_shares={"head": 1.0}, saliency={}, visualize=None))
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert not found["fidelity"]["same_prediction"] and "is not faithful" in found["flags"][0]


def test_method_that_cannot_explain_is_skipped_with_its_reason(picture, tmp_path):
    def cannot(*_):
        raise interpretation.CannotExplain("no rule for it")

    methods = {"lrp": cannot, "saliency": interpretation.METHODS["saliency"]}
    run = pipeline.run(request(picture, tmp_path, saliency=methods, visualize=None))
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert found["skipped"] == [{"what": "lrp", "why": "no rule for it"}]
    assert [record["method"] for record in found["saliency"]] == ["saliency", "saliency"]


def test_a_map_of_several_traces_is_their_mean(picture, tmp_path):
    plan = plan_request(request(picture, tmp_path))
    traces = [small(), small()]
    traces[1].conv2.weight.data *= 0.5
    method = interpretation.SmoothedMethod(interpretation.METHODS["saliency"], 4, 0.1)
    networks = {"dense": [plan.classifier.model], "trace": traces}
    view = Image.new("RGB", (32, 32))
    found = explain_networks({"saliency": method}, networks, plan, view, tmp_path, Stages())
    assert [(one.network, one.samples, one.noise) for one in found.saliency] == [("dense", 4, 0.1), ("trace", 4, 0.1)]
    expected = method([explainable(trace, plan.x) for trace in traces], plan.x, plan.question.index).map
    assert np.array_equal(np.load(tmp_path / "saliency" / "saliency_trace.npy"), expected.numpy())


def test_maps_on_a_common_scale(picture, tmp_path):
    methods = {"saliency": interpretation.METHODS["saliency"]}
    run = pipeline.run(request(picture, tmp_path, saliency=methods, visualize=None, scale="common"))
    dense, trace = read_summary(run).saliency
    assert dense.scale_top == trace.scale_top and dense.scale == "common"
    raw = [np.abs(np.load(run / one.array)).sum(0) for one in (dense, trace)]
    assert dense.scale_top == pytest.approx(np.percentile(np.stack(raw), 99.5), rel=1e-5)


def test_what_is_the_same_for_all_is_said_once(picture, tmp_path):
    def flat(network, image, target):
        return interpretation.Explanation(torch.ones(3, 32, 32), {}, ("flat: the map says nothing",))

    def grey(network, image, target):
        return interpretation.Explanation(torch.ones(3, 32, 32), {}, ("grey: the map says nothing",))

    def only_dense(network, image, target):
        warnings = () if calls else ("now: the map says nothing",)
        calls.append(network)
        return interpretation.Explanation(torch.ones(3, 32, 32), {}, warnings)

    def cannot(*_):
        raise interpretation.CannotExplain("no gradient")

    calls = []

    def summary_of(**methods):
        run = pipeline.run(request(picture, tmp_path, saliency=methods, visualize=None))
        found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        return [flag for flag in found["flags"] if "says nothing" in flag], found["skipped"]

    assert summary_of(flat=flat, grey=grey) == (["all methods: the map says nothing (on both networks)"], [])
    assert summary_of(lime=cannot, lrp=cannot) == ([], [{"what": "all methods", "why": "no gradient"}])
    flags, skipped = summary_of(flat=flat, lime=cannot, lrp=cannot)
    assert flags == ["flat: the map says nothing (on both networks)"]
    assert summary_of(now=only_dense)[0] == ["now: the map says nothing (on the dense network)"]
    assert skipped == [{"what": "lime, lrp", "why": "no gradient"}]


def test_what_differs_between_the_networks_says_on_which():
    flat = [Note("flat", "lime", "dense"), Note("flat", "lrp", "dense"), Note("flat", "lrp", "trace")]
    notes = [flat[0], Note("other", "lime", "trace"), *flat[1:]]
    assert merge_notes(notes, ["lime", "lrp", "saliency"], ["dense", "trace"]) == [
        ("flat", "lime", "dense"),
        ("other", "lime", "trace"),
        ("flat", "lrp", ""),
    ]


def test_plain_lines_where_the_output_is_no_terminal(picture, tmp_path, capsys):
    pipeline.run(request(picture, tmp_path, saliency={}, visualize=None), Console(soft_wrap=True))
    lines = capsys.readouterr().out.splitlines()
    stages, told = (
        ["load", "augment", "calibrate", "prune", "fidelity", "report"],
        ["dense", "trace", "fidelity", "sparsity", "seconds"],
    )
    assert [line.split()[0] for line in lines][:11] == stages + told
    assert all(line.startswith("flag ") for line in lines[11:-1])
    assert lines[-1].startswith("report ") and lines[-1].endswith("report.html")
    assert not any("\x1b" in line for line in lines)


def test_a_table_on_a_terminal(picture, tmp_path, capsys):
    console = Console(force_terminal=True, width=60, soft_wrap=True)
    run = pipeline.run(request(picture, tmp_path, saliency={}, visualize=None), console)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    rows = [line.strip("│ ") for line in text.splitlines() if line.startswith("│")]
    assert {"dense", "trace", "fidelity", "sparsity", "seconds", "report"} <= {row.split()[0] for row in rows}
    assert str(run / "report.html") in "".join(rows), "folded, not cut"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_export_is_a_plain_state_dict(finished, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    export(finished, out)
    state = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    network = small()
    network.load_state_dict(state)
    assert int((network.conv1.weight == 0).sum()) == 288 and list(tmp_path.iterdir()) == [out]
    (tmp_path / "plain").write_text("")
    modes = {path.stat().st_mode for path in (out, finished / "trace.safetensors", tmp_path / "plain")}
    assert len(modes) == 1, "readable for whoever may read the other files"


def test_faults_of_one_explanation_are_not_the_runs(picture, tmp_path):
    def fails(*_, **__):
        raise SpadeError("not finite")

    run = pipeline.run(request(picture, tmp_path, saliency={"saliency": fails}, visualize=fails))
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert found["skipped"] == [{"what": name, "why": "not finite"} for name in ("saliency", "visualization")]


def test_a_dead_channel_is_said_once_for_both_networks(picture, tmp_path, monkeypatch):
    def dead():
        model = small()
        model.conv1.weight.data[3], model.conv1.bias.data[3] = 0, -1
        return model

    monkeypatch.setattr(networks, "small", dead)
    asked = {"visualization_targets": ("conv1:3", "conv1:2"), "visualize": partial(interpretation.visualize, steps=30)}
    run = pipeline.run(request(picture, tmp_path, saliency={}, **asked))
    flags = json.loads((run / "summary.json").read_text(encoding="utf-8"))["flags"]
    why = "the channel is dead, no picture excites it"
    assert [flag for flag in flags if "blank" in flag] == [
        f"the visualization of conv1-3 is blank: {why} (on both networks)"
    ]


def test_channels_of_long_layer_names_have_pictures_of_their_own(tmp_path):
    names = [f"{'a.very.long.layer.name' * 12}-{channel}" for channel in (17, 18)]
    files = slugs(names)
    written = [write_visualization(tmp_path, n, files[n], "dense", torch.rand(3, 4, 4), 0.0)[0] for n in names]
    assert written[0].picture != written[1].picture
