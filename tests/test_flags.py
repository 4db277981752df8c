"""When a run says that its trace is not faithful, and that its search found none."""

import json
import re
from functools import partial

import pytest
import torch
from networks import photograph
from run_requests import request

from spade_cli.pruning import Trace, schedule
from spade_cli.report.summary import FidelityRecord, Prediction, Predictions
from spade_cli.run import pipeline
from spade_cli.run.flags import flag_unfaithful
from spade_cli.run.request import plan_request


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    photograph().save(path)
    return path


@pytest.mark.parametrize("share, flag", [(0.999, "falls from|predicts|agrees"), (0.0, None)])
def test_unfaithful_traces_are_flagged(picture, tmp_path, share, flag):
    run = pipeline.run(request(picture, tmp_path, layer_shares={"*": share}, saliency={}, visualize=None))
    flags = json.loads((run / "summary.json").read_text(encoding="utf-8"))["flags"]
    assert re.search(flag, " ".join(flags)) if flag else flags == []


@pytest.mark.parametrize(
    ("same", "after", "agreement", "flag"),
    [
        (True, 0.4, 0.5, None),  # half of the target's probability, half of the samples: both are enough
        (True, 0.39, 0.5, r"falls from 80.0% to 39.0% on the trace; .* it is halved at no single layer; use"),
        (True, 0.4, 0.49, r"agrees with the dense network on 49% of the samples only; use"),
        (False, 0.8, 1.0, r"predicts dog, the dense network cat: .* the answer changes at no single layer; use"),
    ],
)
def test_each_way_to_be_unfaithful_has_its_flag(picture, tmp_path, same, after, agreement, flag):
    plan = plan_request(request(picture, tmp_path, saliency={}, visualize=None))
    as_dense = Trace(plan.classifier.model, (), torch.zeros(1, 5))  # no layer of it breaks anything
    said = Predictions(Prediction(0, "cat", 0.8, 0.8), Prediction(1, "cat" if same else "dog", after, after))
    found = flag_unfaithful(plan, as_dense, said, FidelityRecord(same, agreement, 0.0))
    assert found is None if flag is None else re.search(flag, found)


@pytest.mark.parametrize(
    "named, left", [({}, "this is the dense network"), ({"head": 0.1}, "only what schedule.layers")]
)
def test_a_search_that_finds_nothing_says_how_near_it_came(picture, tmp_path, named, left):
    def nothing_left(weight, hessian, share, block):
        return torch.zeros_like(weight) if share > 0.1 else weight

    changes = {
        "schedule": partial(schedule.auto, fidelity=1.0),
        "schedule_name": "auto",
        "level": None,
        "layer_shares": named,
        "pruner": nothing_left,
    }
    run = pipeline.run(request(picture, tmp_path, **changes, saliency={}, visualize=None))
    found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert found["trials"] and not any(trial["faithful"] for trial in found["trials"])
    (flag,) = (flag for flag in found["flags"] if "schedule=auto found no trace" in flag)
    gentlest = found["trials"][-1]["fidelity"]
    assert left in flag and f"from {gentlest['dense']:.1%} to {gentlest['pruned']:.1%}" in flag
