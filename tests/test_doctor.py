"""spade doctor: everything is tried, what does not work says why, and damage is seen."""

import copy
from functools import partial

import pytest
import torch
from networks import DEVICE, small

from spade_cli.cli import main
from spade_cli.inspection.examine import (
    FAILS,
    FLAGGED,
    SKIPPED,
    WORKS,
    _judge_trace,
    _try_visualization,
    count_findings,
    examine,
)
from spade_cli.interpretation import METHODS, CannotExplain, Channel, Explanation, SmoothedMethod, visualize
from spade_cli.models import wrap
from spade_cli.pruning import collect, find_layers, prune
from spade_cli.pruning.schedule import Shares
from spade_cli.pruning.solvers.weight_scores import magnitude
from spade_cli.run.trace_settings import TraceSettings

QUICK = ("augmentation.samples=2", "interpreter.steps=2", "interpreter.methods=[saliency,lrp,guided_backprop]")


def test_a_table_of_what_works(capsys):
    assert main(["doctor", "model=demo", *QUICK, f"device={DEVICE}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "demo: pictures of 128 x 128, 12 classes; 24 layers, 24 reached, 23 prunable"
    rows = {line[: line.index("  ")]: line for line in lines if "  " in line.strip()}
    assert "works" in rows["trace by forward"] and "conservation" in rows["lrp"] and "works" in rows["saliency"]
    assert "from gradient" in rows["guided_backprop"]
    assert any(line.startswith("visualization of layer") for line in lines)


def test_a_small_network_gets_small_windows_and_an_interpreter_without_visualization(capsys):
    own = ["model=python", "model.factory=networks:small", "model.size=32", "augmentation.samples=2"]
    assert main(["doctor", *own, "interpreter=saliency", "interpreter.methods=[occlusion]"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("occlusion")]
    assert "works" in line or "flagged" in line, line


def test_mistakes_are_one_line(capsys):
    assert (
        main(["doctor", "model=demo", *QUICK, "interpreter.methods=[guided_gradcam]", "interpreter.cam_layer=layer5"])
        == 2
    )
    assert "interpreter.cam_layer=layer5 is no layer of this network; did you mean layer" in capsys.readouterr().err
    assert main(["doctor", "model=demo", *QUICK, "image=nowhere.png"]) == 2
    capsys.readouterr()
    assert main(["doctor", "model=demo", *QUICK, "schedule=auto"]) == 2
    assert "give spade doctor schedule=late" in capsys.readouterr().err


def examined(**changes):
    classifier = wrap(small(), size=32)
    layers, image = find_layers(classifier.model, classifier.grey()), torch.randn(1, 3, 32, 32)
    asked = {
        "settings": [TraceSettings(pruner=magnitude, pruner_name="magnitude")],
        "methods": {"saliency": METHODS["saliency"]},
        "visualize": None,
        "channels": {},
    } | changes
    samples = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    asked["methods"] = {name: SmoothedMethod(method) for name, method in asked["methods"].items()}
    found = examine(classifier, image, samples, layers, Shares({"conv2": 0.5}), **asked)
    assert len(found) == count_findings(asked["settings"], asked["methods"], asked["channels"])
    return {finding.what: finding for finding in found}


def test_findings_by_verdict():
    def refuses(network, image, target):
        raise CannotExplain("refuses needs a network of another kind")

    def warns(network, image, target):
        return Explanation(torch.ones(3, 32, 32), {"sum": 3072.0}, ("warns: the map has the same value everywhere",))

    found = examined(
        methods={"saliency": METHODS["saliency"], "refuses": refuses, "warns": warns},
        visualize=lambda model, channels, **settings: torch.full((1, 3, 32, 32), 0.5),
        channels={"grey": Channel(None, 0)},
    )
    verdicts = {what: finding.verdict for what, finding in found.items()}
    assert verdicts == {
        "calibration": WORKS,
        "trace by magnitude": WORKS,
        "saliency": WORKS,
        "refuses": SKIPPED,
        "warns": FLAGGED,
        "visualization of grey": FLAGGED,
    }
    assert found["refuses"].why == ("refuses needs a network of another kind",)
    assert found["trace by magnitude"].checks["pruned"] == 1 and found["warns"].checks == {"sum": 3072.0}


def test_a_dead_channel_is_called_dead():
    model = small()
    model.conv1.weight.data[3], model.conv1.bias.data[3] = 0, -1
    classifier = wrap(model, size=32, mean=(0.5,) * 3, std=(0.2,) * 3)
    found = _try_visualization("conv1:3", partial(visualize, steps=4), classifier, Channel("conv1", 3), 0)
    assert found.verdict == FLAGGED
    assert found.why == ("the picture is blank: the channel is dead, no picture excites it",)


def test_a_pruner_that_fails_is_a_finding_and_a_fault_is_not():
    found = examined(settings=[TraceSettings(pruner=lambda weight, *_: weight * torch.nan, pruner_name="broken")])
    assert found["trace by broken"].verdict == FAILS and "NaN" in found["trace by broken"].why[0]
    with pytest.raises(ZeroDivisionError):
        examined(methods={"faulty": lambda network, image, target: 1 / 0})


def test_damage_is_seen():
    model = small()
    layers = find_layers(model)
    statistics = collect(model, [torch.randn(4, 3, 16, 16)], ["conv2"], samples=4)
    trace = prune(model, layers, {"conv2": 0.5}, statistics, magnitude)
    assert _judge_trace(model, trace.model, trace.layers, ["conv2"]) == (WORKS, ())
    damaged = copy.deepcopy(trace.model)
    damaged.conv1.weight.data[0] = 0
    verdict, why = _judge_trace(model, damaged, trace.layers, ["conv2"])
    assert verdict == FAILS and why[0].startswith("conv1 changed")
    verdict, why = _judge_trace(model, trace.model, trace.layers, ["conv2", "conv1"])
    assert verdict == FLAGGED and why[0].startswith("conv1: ")
