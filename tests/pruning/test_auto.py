"""schedule=auto: what it may choose, what it has to keep, and that it chooses as its definition says."""

import itertools
from dataclasses import replace

import pytest
import torch
from networks import photograph, small
from torch import nn
from torchvision import models

import spade_cli
from spade_cli.images.load import as_image
from spade_cli.models import wrap
from spade_cli.networks.question import Question
from spade_cli.pruning import (
    Auto,
    Draft,
    Judge,
    Search,
    blocks,
    body,
    breaking_layer,
    collect,
    find_layers,
    prune,
    schedule,
)
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.weight_scores import magnitude
from spade_cli.run.make_trace import read_answer

LADDER = (0.9, 0.7, 0.5)
LONG = (0.99, 0.98, 0.97, 0.95, 0.93, 0.9)
NONE = (1 - 1e-9,)  # a share that leaves one weight


class Deep(nn.Module):
    """Stem, four stacked convolutions, a head: five blocks that can be pruned."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(4)))
        self.head = nn.Linear(8, 6)

    def forward(self, x):
        return self.head(self.body(self.stem(x).relu()).mean((2, 3)))


@pytest.fixture(scope="module")
def image():
    """A network, the statistics of its samples, and a judge of its answer to one picture."""
    torch.manual_seed(1)
    model = Deep().eval()
    for module in model.modules():  # answers that depend on the picture, so that pruning can change them
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.head.weight, std=4.0)
    samples = torch.randn(12, 3, 1, 1) + 0.5 * torch.randn(12, 3, 24, 24)
    layers = find_layers(model)
    statistics = collect(model, [samples], [layer.name for layer in layers if layer.reason is None], samples=12)
    with torch.no_grad():
        logits = model(samples[:1])[0]
    judge = Judge(samples[:1], logits, Question(int(logits.argmax())), [samples], statistics.logits)
    return model, layers, statistics, judge


def searched(image, ladder=LADDER, resort=(), least=0.9, fixed=None, pruner=forward):
    model, layers, statistics, judge = image
    draft = Draft(model, layers, statistics, pruner, 0.01)
    search = Search(draft, blocks(layers), Auto((), ladder, resort, least), judge, fixed or {})
    return search, search.run()


def by_hand(image, shares, pruner=forward):
    """Top-1 kept, by how much the target's probability falls, and KL, from a trace made the ordinary way."""
    model, layers, statistics, judge = image
    named = {layer: share for block, share in shares.items() for layer in blocks(layers)[block]}
    with torch.no_grad():
        trace = prune(model, layers, named, statistics, pruner).model
        before, after = (network(judge.x)[0].double().softmax(0) for network in (model, trace))
        p, q = (network(judge.samples[0]).double().softmax(1) for network in (model, trace))
    same = int(before.argmax()) == int(after.argmax())
    return (
        same,
        float(before[judge.question.index] - after[judge.question.index]),
        float((p * (p / q).log()).sum(1).mean()),
    )


def test_blocks_are_what_the_authors_stacked():
    expected = {
        "resnet18": ["fc", "layer4.1", "layer4.0", "layer3.1"],
        "squeezenet1_1": ["classifier.1", "features.12", "features.11"],
        "vit_b_16": ["heads.head", "encoder.layers.encoder_layer_11", "encoder.layers.encoder_layer_10"],
        "mobilenet_v2": ["classifier.1", "features.18.0", "features.17"],
        "densenet121": ["classifier", "features.denseblock4.denselayer16"],
        "inception_v3": ["fc", "Mixed_7c", "Mixed_7b"],
    }
    for name, first in expected.items():
        extra = {"init_weights": False} if name == "inception_v3" else {}
        with torch.device("meta"):
            model = models.get_model(name, weights=None, **extra)
        layers = find_layers(model)
        found = blocks(layers)
        assert list(found)[: len(first)] == first
        assert sorted(itertools.chain(*found.values())) == sorted(x.name for x in layers if x.reason is None)
    assert found["Mixed_7c"][0].startswith("Mixed_7c.branch1x1")


def test_the_head_is_no_candidate_unless_it_is_all_there_is():
    layers = find_layers(models.resnet18(weights=None))
    assert "fc" in blocks(layers) and "fc" not in body(layers) and len(body(layers)) == len(blocks(layers)) - 1
    assert (
        "fc" not in schedule.auto(layers, None).candidates
        and "layer1.0.conv1" in schedule.auto(layers, None).candidates
    )
    assert list(body(find_layers(nn.Sequential(nn.Linear(3, 2))))) == ["0"]


def test_every_trial_says_what_a_trace_with_these_shares_does(image):
    search, _ = searched(image)
    assert {trial.faithful for trial in search.trials} == {True, False} and len(search.trials) <= search.most_trials
    for trial in search.trials:
        same, lost, kl = by_hand(image, trial.shares)
        assert trial.fidelity.same_prediction == same
        assert trial.fidelity.dense - trial.fidelity.pruned == pytest.approx(lost, abs=1e-5)
        assert trial.faithful == (same and lost <= min(0.1, trial.fidelity.dense / 2))
        assert trial.fidelity.kl == (pytest.approx(kl, rel=1e-3, abs=1e-6) if trial.faithful else None)
        assert list(trial.shares) == list(blocks(image[1]))[: len(trial.shares)], "from the output on, without a gap"


def test_the_chosen_trace_is_faithful_and_differs_most_of_what_was_tried(image):
    search, best = searched(image)
    assert best is not None and best.faithful
    assert best.fidelity.kl == max(trial.fidelity.kl for trial in search.trials if trial.faithful)
    assert search.replay.exact, "trials started at the first changed block"
    own = search.draft.trace(tuple(search.trials))
    named = {layer: share for block, share in best.shares.items() for layer in search.blocks[block]}
    ordinary = prune(*image[:2], named, image[2], forward)
    assert all(torch.equal(value, ordinary.model.state_dict()[name]) for name, value in own.model.state_dict().items())
    assert own.layers == ordinary.layers and own.trials == tuple(search.trials)


@pytest.mark.parametrize("least", [0.5, 0.9, 0.99])
def test_where_fidelity_falls_with_depth_no_share_could_go_deeper(image, least):
    """The slow definition: for each share, every depth in turn."""
    names = list(blocks(image[1]))
    depths = {}
    for share in LADDER:
        held = [by_hand(image, dict.fromkeys(names[:depth], share)) for depth in range(1, len(names) + 1)]
        good = [same and lost <= 1 - least for same, lost, _ in held]
        if good != sorted(good, reverse=True):
            continue  # not monotone here: the search promises a faithful depth, not the deepest
        depths[share] = sum(good)
    assert depths, "the case tests nothing"
    search, _ = searched(image, least=least)
    assert len(search.trials) <= search.most_trials
    for share, depth in depths.items():
        tried = [trial for trial in search.trials if trial.faithful and set(trial.shares.values()) == {share}]
        assert max((len(trial.shares) for trial in tried), default=0) == depth
        if depth == len(names):
            break  # all blocks: lower shares are not tried


def test_a_trial_that_fails_on_the_image_does_not_see_the_samples(image):
    model, _, _, judge = image
    asked = []

    def network(images):
        asked.append(len(images))
        return model(images)

    refused = judge(network, lambda fidelity: False)
    assert asked == [1] and refused.kl is None and refused.pruned == pytest.approx(refused.dense)
    assert judge(network, lambda fidelity: True).kl == pytest.approx(0, abs=1e-6) and asked == [1, 1, 12]


@pytest.mark.parametrize(
    ("ladder", "resort", "least", "frees"), [(LONG, (), 0.9, True), ((*NONE, 1 - 1e-8), LADDER, 0.99, False)]
)
def test_a_block_that_each_share_prunes_is_solved_in_one_call_where_the_pruner_can(
    image, monkeypatch, ladder, resort, least, frees
):
    monkeypatch.setattr("spade_cli.pruning.search.AHEAD_FROM", 1)
    model, layers, statistics, judge = image
    calls = []

    def plain(weight, hessian, sparsity, block):
        return forward(weight, hessian, sparsity, block)

    def pruner(weight, hessian, sparsity, block):
        raise AssertionError("all shares are asked for by `ladder`")

    def together(weight, hessian, shares, block):
        calls.append(shares)
        return [forward(weight, hessian, share, block) for share in shares]

    pruner.ladder = together
    one_by_one, best = searched(image, ladder, resort, least, pruner=plain)
    own = replace(statistics, hessians=dict(statistics.hessians))
    draft = Draft(model, layers, own, pruner, 0.01, owns_statistics=True)
    search = Search(draft, blocks(layers), Auto((), ladder, resort, least), judge)
    assert search.run() == best and search.trials == one_by_one.trials
    assert list(ladder) in map(list, calls), "the last block is solved at all shares at once"
    trace, expected = draft.trace(), one_by_one.draft.trace()
    assert trace.layers == expected.layers
    assert all(map(torch.equal, trace.model.state_dict().values(), expected.model.state_dict().values()))
    assert (statistics.hessians.keys() > own.hessians.keys()) == frees, "once a layer is done"


def test_narrow_layers_are_solved_at_the_shares_that_are_tried_only(image):
    model, layers, statistics, judge = image
    calls = []

    def pruner(weight, hessian, sparsity, block):
        return forward(weight, hessian, sparsity, block)

    def together(weight, hessian, shares, block):
        calls.append(list(shares))
        return [forward(weight, hessian, share, block) for share in shares]

    pruner.ladder = together
    Search(Draft(model, layers, statistics, pruner, 0.01), blocks(layers), Auto((), LADDER, (), 0.9), judge).run()
    assert calls and all(len(shares) == 1 for shares in calls)


def test_statistics_that_others_need_are_not_freed(image):
    model, layers, statistics, _ = image
    before = dict(statistics.hessians)
    draft = Draft(model, layers, statistics, magnitude, 0.01)
    draft.solve("head", [0.5, 0.9])
    draft.free("head")
    assert statistics.hessians == before


def test_a_network_that_nothing_can_be_taken_from_stays_dense(image):
    search, best = searched(
        image, ladder=NONE, resort=(0.5,), pruner=lambda weight, *_: torch.zeros_like(weight), least=1.0
    )
    assert best is None and not any(trial.faithful for trial in search.trials)
    state = image[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in search.draft.model.state_dict().items())


def test_the_last_resort_is_for_pictures_whose_answer_the_ladder_breaks(image):
    names = list(blocks(image[1]))
    search, best = searched(image, ladder=NONE, resort=LADDER, least=0.99)
    ladder = sum(set(trial.shares.values()) == {*NONE} for trial in search.trials)
    tried = search.trials[ladder:]
    assert best in tried and not any(trial.faithful for trial in search.trials[:ladder])
    assert len(search.trials) <= search.most_trials
    assert [trial.shares for trial in tried] == [{names[0]: share} for share in LADDER[: len(tried)]]
    assert [trial.faithful for trial in tried] == [False] * (len(tried) - 1) + [True], "until the first that is"
    unneeded, _ = searched(image, resort=(0.3,), least=0.99)
    assert any(trial.faithful for trial in unneeded.trials)
    assert 0.3 not in {share for trial in unneeded.trials for share in trial.shares.values()}


def test_where_every_layer_is_set_by_hand_nothing_is_tried(image):
    model, layers, statistics, judge = image
    draft = Draft(model, layers, statistics, forward, 0.01)
    search = Search(draft, {}, Auto((), LADDER, LADDER, 0.9), judge, {"head": 0.5})
    assert search.run() is None and not search.trials and search.most_trials == len(search.trials)
    assert {record.name: record for record in search.draft.trace().layers}["head"].asked == 0.5


def test_shares_set_by_hand_stay_whatever_is_found(image):
    search, _ = searched(image, fixed={"head": 0.0, "body.3.0": 0.3})
    records = {record.name: record for record in search.draft.trace().layers}
    assert records["head"].left == "its share is 0"
    assert records["body.3.0"].asked == 0.3


def test_the_dense_network_is_untouched_and_a_draft_forgets_nothing(image):
    model, layers, statistics, _ = image
    before = {name: value.clone() for name, value in model.state_dict().items()}
    draft = Draft(model, layers, statistics, magnitude, 0.01)
    draft.set({"head": 0.5, "body.0.0": 0.9})
    draft.set({"body.1.0": 0.9})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    own = dict(draft.model.named_modules())
    zeros = [int((own[name].weight == 0).sum()) for name in ("head", "body.0.0", "body.1.0")]
    assert zeros == [0, 0, round(0.9 * 8 * 8 * 9)]


def test_the_breaking_layer_is_the_first_that_changes_the_answer(image):
    model, layers, statistics, judge = image

    def stands(found):
        return found.same_prediction and found.pruned >= 0.9 * found.dense

    def all_or_nothing(weight, hessian, share, block):
        return weight if share < 0.5 else torch.zeros_like(weight)

    trace = prune(model, layers, {"body.1.0": 0.9, "body.3.0": 0.1}, statistics, all_or_nothing)
    assert breaking_layer(model, trace.model, ["body.1.0", "body.3.0"], judge, stands) == "body.1.0"
    both = prune(model, layers, {"body.1.0": 0.9, "body.3.0": 0.9}, statistics, all_or_nothing)
    assert breaking_layer(model, both.model, ["body.1.0", "body.3.0"], judge, stands) == "body.3.0", "output first"
    assert breaking_layer(model, model, ["head"], judge, stands) is None


def test_auto_is_what_a_trace_is_made_with_by_default():
    classifier = wrap(small(), size=32)
    picture = as_image(photograph())
    trace = spade_cli.trace(classifier, picture, samples=8)
    assert trace.trials and any(trial.faithful for trial in trace.trials)
    answer = read_answer(classifier, picture)
    with torch.no_grad():
        before, after = (model(answer.x)[0].softmax(0)[answer.target] for model in (classifier.model, trace.model))
    assert after >= before - 0.1 - 1e-6
    only = spade_cli.trace(classifier, picture, samples=8, sparsity=0.5)
    assert {share for trial in only.trials for share in trial.shares.values()} == {0.5}
