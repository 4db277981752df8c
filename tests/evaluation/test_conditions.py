"""Conditions: from words to settings, from settings to networks; one calibration serves them all."""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch
from networks import photograph, small
from scenes import MODEL, QUICK, write_scenes

import spade_cli
from spade_cli.cli import main
from spade_cli.cli.config import conditions as words
from spade_cli.evaluation import conditions as made
from spade_cli.evaluation import evaluate
from spade_cli.evaluation.evaluation_plan import EvaluationPlan
from spade_cli.images.load import as_image
from spade_cli.interpretation.saliency.smoothing import SmoothedMethod
from spade_cli.models import wrap
from spade_cli.pruning import collect, find_layers, find_pruner, prune, schedule
from spade_cli.run.calibrate import Calibration, SampleBatches
from spade_cli.run.make_trace import calibrate_image, read_answer
from spade_cli.run.trace_settings import TraceSettings

HOW = Calibration(rows_per_column=16, batch_size=4, precision="float32")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The conditions of one command line, by name."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "scenes", 2)
    seen = []
    monkeypatch.setattr(evaluate, "evaluate", lambda request, console: seen.append(request))

    def ask(*arguments):
        assert main(["eval", "data=scenes", *MODEL, *QUICK, *arguments]) == 0
        return seen[-1].conditions

    return ask


def test_a_condition_is_what_one_would_type_to_spade_run(asked):
    found = asked(
        "conditions=[dense, sparse_fc, obs, forward@0.9, k: obs@0.5 pruner.granularity=weight, "
        "own: sparsegpt schedule.layers={head: 0.9, conv*: 0.5}, other: forward image=other]"
    )
    assert list(found) == ["dense", "sparse_fc", "obs", "forward@0.9", "k", "own", "other"]
    assert found["dense"] is None and found["sparse_fc"] is None
    obs = found["obs"].settings
    assert obs.pruner.func is find_pruner("obs") and obs.pruner.keywords["granularity"] == "kernel"
    assert (obs.level, found["forward@0.9"].settings.level, found["k"].settings.level) == (None, 0.9, 0.5)
    assert (obs.pruner_name, obs.schedule_name, found["own"].settings.pruner_name) == ("obs", "auto", "sparsegpt")
    assert found["k"].settings.pruner.keywords["granularity"] == "weight"
    assert found["own"].settings.layer_shares == {"head": 0.9, "conv*": 0.5}
    assert found["other"].of_other and not found["own"].of_other
    assert found["obs"].settings.schedule.func.__name__ == "auto"


def test_what_a_condition_leaves_open_is_the_command_lines(asked):
    found = asked("pruner.sparsity=0.7", "schedule=uniform", "conditions=[obs, late: forward@0.8 schedule=late]")
    assert (found["obs"].settings.level, found["obs"].settings.schedule.func.__name__) == (0.7, "uniform")
    assert (found["late"].settings.level, found["late"].settings.schedule.func.__name__) == (0.8, "late")
    # Another schedule has settings of its own: those of the command line's are not for it.
    found = asked("schedule=late", "schedule.last=0.5", "conditions=[obs, auto: obs schedule=auto]")
    assert found["obs"].settings.schedule.keywords == {"last": 0.5}
    assert "last" not in found["auto"].settings.schedule.keywords


def test_a_condition_may_have_maps_of_its_own(asked):
    found = asked(
        "interpreter.traces=3",
        "conditions=[dense, forward, one: forward interpreter.traces=1, two: forward interpreter.traces=2, "
        "plain: dense interpreter.smoothing.samples=1, faint: forward interpreter.smoothing.noise=0.01]",
    )
    assert [found[name].settings.map_traces for name in ("forward", "one", "two", "faint")] == [3, 3, 2, 3]
    assert [found[name].single for name in ("forward", "one", "two")] == [False, True, False]
    assert found["one"].settings is found["forward"].settings is found["faint"].settings  # one search serves them all
    assert (found["plain"].smoothing, found["faint"].smoothing) == (made.Smoothing(1), made.Smoothing(noise=0.01))
    assert found["forward"].smoothing == made.Smoothing()
    assert asked("interpreter.traces=1", "conditions=[forward]")["forward"].settings.map_traces == 1


def read_values(out):
    """condition -> the AUC of its saliency map against the object of the first picture."""
    with Path(out, "results.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["method"], row["metric"]) == ("saliency", "object_auc")]
    return {row["condition"]: row["value"] for row in rows}


def test_conditions_that_differ_in_their_maps_alone_share_their_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "scenes", 2)
    searched, search = [], made.make_trace
    monkeypatch.setattr(made, "make_trace", lambda *given: searched.append(given) or search(*given))
    explained, explain = [], SmoothedMethod.__call__
    monkeypatch.setattr(SmoothedMethod, "__call__", lambda own, *a: explained.append(own.name) or explain(own, *a))
    conditions = (
        "conditions=[dense, plain: dense interpreter.smoothing.samples=1, forward, one: forward interpreter.traces=1, "
        "bare: forward interpreter.traces=1 interpreter.smoothing.samples=1, other: forward image=other]"
    )
    own = ["count=2", "metrics=[localisation]", "interpreter.methods=[saliency,occlusion]", "controls=[]", "out=out"]
    assert main(["eval", "data=scenes", *MODEL, *QUICK, *own, conditions]) == 0
    assert len(searched) == 2 * 2  # of two images: one for all of their own, one for the other's
    assert explained.count("saliency") == 2 * 6
    # Occlusion is never smoothed: plain and bare have the maps of dense and one, as forward has where it has one trace.
    assert 2 * 3 <= explained.count("occlusion") <= 2 * 4
    values = read_values("out")
    assert len(values) == 6
    for name, other in (("dense", "plain"), ("one", "bare"), ("forward", "other"), ("dense", "forward")):
        assert values[name] != values[other], name
    alone = ["interpreter.traces=1", "interpreter.smoothing.samples=1", "conditions=[dense, forward]"]
    assert main(["eval", "data=scenes", *MODEL, *QUICK, *own[:-1], "out=alone", *alone]) == 0
    assert read_values("alone") == {"dense": values["plain"], "forward": values["bare"]}


def test_they_share_it_where_visualizations_are_asked_for(asked):
    two = "conditions=[four: forward schedule=auto, one: forward schedule=auto interpreter.traces=1, other: sparsegpt]"
    found = asked(two, "metrics=[concepts]", "interpreter.visualization_traces=2")
    four, one, other = (found[name].settings for name in ("four", "one", "other"))
    assert four is one is not other and four.visualization_traces == other.visualization_traces == 2


def test_conditions_of_a_folder_of_ones_own(asked, tmp_path):
    (tmp_path / "own" / "schedule").mkdir(parents=True)
    (tmp_path / "own" / "schedule" / "deep.yaml").write_text(
        "# Deep.\ndefaults:\n  - _layers\n  - _self_\n_target_: spade_cli.pruning.schedule.late\nlast: 0.9  # share\n"
    )
    found = asked("--config-dir", "own", "conditions=[forward schedule=deep]")
    assert found["forward schedule=deep"].settings.schedule.keywords == {"last": 0.9}


def test_words_are_split_outside_brackets_and_quotes():
    assert words.split("a, b: c d={e: 1, f: 2}, 'g, h'", ",") == ["a", "b: c d={e: 1, f: 2}", "'g, h'"]


def calibration(conditions):
    classifier = wrap(small(), size=32)
    image = as_image(photograph())
    settings = TraceSettings(sample_count=8, calibration=HOW)
    plan = EvaluationPlan(None, classifier, find_layers(classifier.model), tuple(conditions), None)
    samples, answer = settings.draw_samples(image, classifier.preprocessing), read_answer(classifier, image)
    return calibrate_image(classifier, plan.layers, plan.calibrated_layers, samples, answer, settings)


def asked_for(**changes):
    plain = dict(pruner=find_pruner("obs"), level=0.5, schedule=schedule.uniform)
    return made.TraceCondition(TraceSettings(**{**plain, **changes}))


def test_one_calibration_gives_each_condition_the_network_that_its_own_would():
    layers = find_layers(small())
    wide, narrow = (
        made.trace_condition("wide", asked_for(), layers),
        made.trace_condition("head", asked_for(layer_shares={"conv*": 0}), layers),
    )
    assert wide.layers == ("conv1", "conv2", "head") and narrow.layers == ("head",)
    shared = calibration([made.dense_condition(), wide, narrow])
    for condition in (wide, narrow):
        own = calibration([condition])
        for name, value in condition.make(shared).network.state_dict().items():
            assert value.equal(condition.make(own).network.state_dict()[name]), name
    model, samples = shared.classifier.model, SampleBatches(shared.samples, wrap(small(), size=32), 4)
    statistics = collect(model, samples, wide.layers, samples=8, rows_per_column=16, seed=0)
    expected = prune(model, layers, dict.fromkeys(wide.layers, 0.5), statistics, find_pruner("obs")).model
    assert wide.make(shared).network.head.weight.equal(expected.head.weight)
    assert made.dense_condition().make(shared).network is model


def test_making_a_trace_leaves_the_dense_network_alone():
    shared = calibration([wide := made.trace_condition("wide", asked_for(), find_layers(small()))])
    before = {name: value.clone() for name, value in shared.classifier.model.state_dict().items()}
    assert (wide.make(shared).network.head.weight == 0).sum() == 20
    assert all(value.equal(before[name]) for name, value in shared.classifier.model.state_dict().items())
    assert torch.equal(wide.make(shared).network.head.weight, wide.make(shared).network.head.weight)


def test_auto_searches_with_the_calibration_that_all_conditions_share():
    layers = find_layers(small())
    auto = made.trace_condition(
        "auto", asked_for(level=None, schedule=schedule.auto, pruner=find_pruner("forward")), layers
    )
    assert auto.layers == ("conv1", "conv2"), "the head is no candidate"
    shared = calibration([auto])
    classifier = shared.classifier
    image = as_image(photograph())
    expected = spade_cli.trace(classifier, image, samples=8, calibration=HOW)
    assert any(trial.faithful for trial in expected.trials)
    found = auto.make(shared).network.state_dict()
    assert all(value.equal(found[name]) for name, value in expected.model.state_dict().items())


def test_a_condition_of_auto_is_all_traces_that_the_search_hands_on():
    strict = partial(schedule.auto, fidelity=0.99, ladder=(0.99, 0.97, 0.95, 0.9))
    asked = asked_for(level=None, schedule=strict, pruner=find_pruner("forward"), map_traces=3)
    auto = made.trace_condition("auto", asked, find_layers(small()))
    shared = calibration([auto])
    settings = {"samples": 8, "calibration": HOW, "map_traces": 3, "schedule": strict}
    expected = spade_cli.trace(shared.classifier, as_image(photograph()), **settings)
    networks = auto.make(shared).for_maps
    assert len(networks) == len(expected.for_maps) > 1
    for network, other in zip(networks, expected.for_maps, strict=True):
        assert all(value.equal(network.state_dict()[name]) for name, value in other.state_dict().items())
