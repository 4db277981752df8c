"""What a search hands on besides its trace: other faithful traces for maps, and traces with a pruned head."""

import pytest
import torch
from test_auto import LADDER, by_hand, image  # noqa: F401 (a fixture)

import spade_cli
from spade_cli.images.load import as_image
from spade_cli.models import wrap
from spade_cli.pruning import Auto, Draft, HeadSearch, Search, blocks, find_layers, prune, schedule
from spade_cli.pruning.solvers.damped_hessian import damp
from spade_cli.pruning.solvers.forward import forward
from spade_cli.records import Fidelity, Trial

HEAD = (0.9, 0.8, 0.6, 0.4, 0.2)


@pytest.fixture(autouse=True)
def few_channels(monkeypatch):
    """The small network's head has eight."""
    monkeypatch.setattr("spade_cli.pruning.search.LEAST_READ", 0)


def search_with(kind, image, head_shares=HEAD, least=0.9, ladder=LADDER):  # noqa: F811
    model, layers, statistics, judge = image
    draft = Draft(model, layers, statistics, forward, 0.01)
    auto = Auto((), ladder, (), least, ("head",), head_shares)
    search = kind(draft, blocks(layers), auto, judge)
    if kind is HeadSearch:
        search.rows = (judge.question.index,)
    return search


def answer_with_row(image, shares):  # noqa: F811
    """As `by_hand`, where of the head only the target's row is pruned: it is solved as a layer of one row."""
    model, layers, statistics, judge = image
    named = {layer: share for block, share in shares.items() if block != "head" for layer in blocks(layers)[block]}
    network = prune(model, layers, named, statistics, forward).model
    weight = model.head.weight.detach()[judge.question.index][None, None]  # (1, 1, c)
    hessian, _ = damp(statistics.hessians["head"], 0.01)
    with torch.no_grad():
        network.head.weight[judge.question.index] = forward(weight, hessian, shares["head"], 1)[0, 0]
        before, after = (one(judge.x)[0].double().softmax(0) for one in (model, network))
        p, q = (one(judge.samples[0]).double().softmax(1) for one in (model, network))
    same = int(before.argmax()) == int(after.argmax())
    lost = float(before[judge.question.index] - after[judge.question.index])
    return same, lost, float((p * (p / q).log()).sum(1).mean()), network


@pytest.mark.parametrize("least", [0.5, 0.9, 0.99])
def test_the_targets_row_gets_the_highest_share_that_is_faithful_alone_and_has_it_in_every_trial(image, least):  # noqa: F811
    search = search_with(HeadSearch, image, least=least)
    best = search.run()
    alone = {share: answer_with_row(image, {"head": share}) for share in HEAD}
    good = [share for share, (same, lost, *_) in alone.items() if same and lost <= 1 - least]
    expected = max(good)
    assert best is not None and best.faithful and best.shares["head"] == expected
    tried = [trial.shares for trial in search.trials]
    assert tried[: HEAD.index(expected) + 1] == [{"head": share} for share in HEAD[: HEAD.index(expected) + 1]]
    names = list(blocks(image[1]))
    for trial in search.trials[HEAD.index(expected) + 1 :]:
        assert trial.shares["head"] == expected and list(trial.shares) == names[: len(trial.shares)]
        assert len(trial.shares) > 1 and len(set(list(trial.shares.values())[1:])) == 1
        same, lost, kl, _ = answer_with_row(image, trial.shares)
        assert trial.faithful == (same and lost <= min(1 - least, trial.fidelity.dense / 2))
        assert trial.fidelity.kl == (pytest.approx(kl, rel=1e-3, abs=1e-6) if trial.faithful else None)
    assert len(search.trials) <= search.most_trials
    assert best.fidelity.kl == max(trial.fidelity.kl for trial in search.trials if trial.faithful)
    own, expected_network = search.draft.model.state_dict(), answer_with_row(image, best.shares)[3].state_dict()
    assert all(torch.allclose(value, expected_network[name], atol=1e-6) for name, value in own.items())
    search.leave({})
    assert all(
        torch.equal(value, image[0].state_dict()[name]) for name, value in search.draft.model.state_dict().items()
    )


def test_the_row_reads_a_few_channels_at_least(image, monkeypatch):  # noqa: F811
    monkeypatch.setattr("spade_cli.pruning.search.LEAST_READ", 6)  # of 8
    search = search_with(HeadSearch, image, least=0.5)
    search.run()
    assert (
        min(trial.shares["head"] for trial in search.trials)
        == max(trial.shares["head"] for trial in search.trials)
        == 0.2
    )


def test_without_a_share_that_holds_nothing_is_pruned(image):  # noqa: F811
    search = search_with(HeadSearch, image, head_shares=(1 - 1e-9,), least=0.999)
    assert search.run() is None and search.spread(3) == [] and len(search.trials) == 1
    assert all(
        torch.equal(value, image[0].state_dict()[name]) for name, value in search.draft.model.state_dict().items()
    )


def test_traces_are_spread_over_the_ladder_the_chosen_one_first():
    def trial(share, depth, kl):
        return Trial(dict.fromkeys("abcdef"[:depth], share), Fidelity(kl is not None, 1.0, 1.0, kl), kl is not None)

    search = object.__new__(Search)
    search.trials = [
        *(trial(0.99, 1, 0.1), trial(0.99, 2, None), trial(0.98, 1, 0.2), trial(0.98, 2, 0.3), trial(0.97, 3, 0.9)),
        *(trial(0.95, 4, 0.8), trial(0.93, 5, 0.7), trial(0.93, 6, None)),
    ]
    chosen, deepest = search.trials[4], [search.trials[at] for at in (0, 3, 5, 6)]  # of .99, .98, .95, .93
    assert search.spread(1) == [chosen]
    assert search.spread(2) == [chosen, deepest[0]]
    assert search.spread(3) == [chosen, deepest[0], deepest[3]]
    assert search.spread(5) == search.spread(50) == [chosen, *deepest]
    search.trials = [trial(0.99, 1, None)]
    assert search.spread(3) == []


def test_the_chosen_trace_stands_for_its_share_and_visualizations_take_those_that_differ_most():
    def trial(share, depth, kl):
        return Trial(dict.fromkeys("abcdef"[:depth], share), Fidelity(True, 1.0, 1.0, kl), True)

    trials = [trial(0.99, 1, 0.9), trial(0.99, 2, 0.1), trial(0.98, 2, 0.3), trial(0.97, 3, 0.5)]
    search, visual = object.__new__(Search), object.__new__(HeadSearch)
    search.trials = visual.trials = trials
    assert search.spread(3) == [trials[0], trials[2], trials[3]]
    assert visual.spread(2) == [trials[0], trials[3]] and visual.spread(9) == [trials[0], trials[3], trials[2]]


def test_a_copy_is_an_ordinary_trace_and_holds_only_what_was_pruned(image):  # noqa: F811
    model, layers, statistics, _ = image
    search = search_with(Search, image, least=0.99, ladder=(0.9, 0.85, 0.8, 0.7, 0.6, 0.5))
    best = search.run()
    trials = search.spread(3)
    assert trials[0] is best and len(trials) > 1, "the case tests nothing"
    copies = search.copy_traces(trials)
    assert all(torch.equal(a, b) for a, b in zip(copies[0].parameters(), search.draft.model.parameters(), strict=True))
    for trial, copied in zip(trials, copies, strict=True):
        named = {name: share for block, share in trial.shares.items() for name in blocks(layers)[block]}
        ordinary = prune(model, layers, named, statistics, forward).model.state_dict()
        assert all(torch.equal(value, ordinary[name]) for name, value in copied.state_dict().items())
        own, theirs = dict(copied.named_parameters()), dict(search.draft.model.named_parameters())
        shared = {name for name in own if own[name] is theirs[name]}
        assert shared == set(own) - {f"{layer.name}.weight" for layer in layers}


def test_a_trace_comes_with_others_where_they_are_asked_for():
    classifier, picture = (
        wrap(_sure_network(), size=32),
        as_image(torch.randint(0, 255, (3, 40, 40), dtype=torch.uint8)),
    )
    plain = spade_cli.trace(classifier, picture, samples=8)
    assert plain.for_maps == (plain.model,) and plain.for_visualization == (plain.model,)
    several = spade_cli.trace(classifier, picture, samples=8, map_traces=3, visualization_traces=2)
    assert several.layers == plain.layers and several.trials == plain.trials, "the trace itself does not change"
    assert 1 < len(several.for_maps) <= 3 and several.for_maps[0] is several.model
    assert [trial.shares for trial in several.others.map_trials[:1]] == [
        max((trial for trial in plain.trials if trial.faithful), key=lambda trial: trial.fidelity.kl).shares
    ]
    assert 1 <= len(several.for_visualization) <= 2
    for network, trial in zip(several.for_visualization, several.others.visualization_trials, strict=True):
        kept = (network.head.weight != 0).sum(1)
        row = 8 - round(8 * trial.shares["head"])
        assert trial.shares["head"] > 0 and sorted(kept.tolist()) == [row, *[8] * 5]
    by_hand_too = spade_cli.trace(classifier, picture, samples=8, visualization_traces=2, layers={"head": 0.0})
    assert by_hand_too.for_visualization == (by_hand_too.model,)


def test_a_network_that_is_all_head_has_no_head_of_its_own():
    layers = find_layers(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)))
    assert schedule.auto(layers, None).head == () and schedule.auto(layers, None).candidates == ("1",)
    assert schedule.settle_shares(schedule.auto, layers, None, {}).head == ()


def _sure_network():
    """A network that is sure of its answer, so that some traces are faithful."""
    from test_auto import Deep

    torch.manual_seed(3)
    model = Deep().eval()
    torch.nn.init.normal_(model.head.weight, std=3.0)
    return model


def test_each_row_is_solved_once_and_the_head_is_never_solved_as_a_whole(image, monkeypatch):  # noqa: F811
    monkeypatch.setattr("spade_cli.pruning.search.AHEAD_FROM", 1)  # every layer is wide
    model, layers, statistics, judge = image
    rows, solved = [], []

    def pruner(weight, hessian, sparsity, block):
        rows.append((tuple(weight.shape), sparsity))
        return forward(weight, hessian, sparsity, block)

    def ladder(weight, hessian, shares, block):
        solved.append(weight.shape)
        return [forward(weight, hessian, share, block) for share in shares]

    pruner.ladder = ladder
    draft = Draft(model, layers, statistics, pruner, 0.01)
    auto = Auto((), LADDER, (), 0.9, ("head",), HEAD)
    search = HeadSearch(draft, blocks(layers), auto, judge, rows=judge.question.classes)
    search.run()
    search.copy_traces(search.spread(3))
    of_rows = [one for one in rows if one[0] == (1, 1, 8)]
    assert of_rows and len(of_rows) == len(set(of_rows))
    assert solved and (1, 6, 8) not in [tuple(shape) for shape in solved]
