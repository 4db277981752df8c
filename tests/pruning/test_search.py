"""The search's steps against a slow search, and the parts that it is made of: settings, fidelity, kept weights."""

import random

import pytest
import torch
from networks import small
from torch import nn

from spade_cli.errors import UserError
from spade_cli.pruning import (
    Auto,
    Draft,
    Fidelity,
    Search,
    Statistics,
    find_layers,
    schedule,
)
from spade_cli.pruning.draft import SparseWeight
from spade_cli.pruning.fidelity import agreement
from spade_cli.pruning.solvers.weight_scores import magnitude
from spade_cli.records import Trial

LADDER = (0.9, 0.7, 0.5)
LONG = (0.99, 0.98, 0.97, 0.95, 0.93, 0.9)


class StatedSearch(Search):
    """A search whose trials are faithful down to given depths, share by share; nothing is pruned and nothing asked."""

    def __init__(self, depths, count, more=None):
        model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(count)))
        draft = Draft(model, [], Statistics({}, {}, torch.empty(0)), magnitude, 0.01)
        named = {f"block{at}": (str(at),) for at in range(count)}
        super().__init__(draft, named, Auto((), tuple(depths), (0.2, 0.1), 0.9), None)
        self.depths, self.more = depths, more

    def _set(self, shares):
        pass

    def _try(self, share, depth):
        good = depth <= self.depths.get(share, 0)
        kl = 2 * depth + self.more[share] if good else None
        self.trials.append(Trial(dict.fromkeys(list(self.blocks)[:depth], share), Fidelity(good, 1.0, 1.0, kl), good))
        return self.trials[-1]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16])
def test_the_chosen_trace_is_that_of_the_slow_search_and_no_block_far_behind_it_is_solved(count):
    """Fidelity falls with depth, at depths drawn at random; the slow search tries every depth from the last one on."""
    generator = random.Random(count)
    for _ in range(200):
        depths = dict(zip(LONG, sorted(generator.randint(0, count) for _ in LONG), strict=True))
        more = {share: generator.random() for share in LONG}  # which share differs most at one depth is open
        search = StatedSearch(depths, count, more)
        best, slow, reached = search.run(), None, 0
        for share, depth in depths.items():
            if depth and reached < count and (slow is None or 2 * depth + more[share] > 2 * slow[0] + more[slow[1]]):
                slow = depth, share
            reached = max(reached, depth)
        assert (best and (len(best.shares), next(iter(best.shares.values())))) == slow
        assert len(search.trials) <= search.most_trials
        assert len({tuple(trial.shares.items()) for trial in search.trials}) == len(search.trials), "none twice"
        for share, depth in depths.items():
            tried = [len(trial.shares) for trial in search.trials if share in trial.shares.values()]
            before = max([0, *(other for earlier, other in depths.items() if earlier > share)])
            assert max(tried, default=0) - depth <= depth - before + 1, "not twice as far as was reached"


@pytest.mark.parametrize("depth", range(0, 65, 3))
def test_one_share_in_a_deep_network_takes_steps_and_halvings_only(depth):
    search = StatedSearch({0.9: depth}, 64, {0.9: 0.0})
    best = search.run()
    assert (len(best.shares) if best else 0) == depth
    assert len(search.trials) <= search.most_trials <= 16, "2 (1 + log2 65), and two of the last resort"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_a_sparse_weight_is_the_weight(share):
    weight = torch.randn(6, 5, 3, 3).to(memory_format=torch.channels_last)
    weight[torch.rand(weight.shape) < share] = 0
    kept = SparseWeight.of(weight)
    assert torch.equal(kept.dense(), weight) and kept.places.dtype == torch.int32
    share = float((weight == 0).double().mean())
    assert kept.values.nbytes + kept.places.nbytes == pytest.approx(SparseWeight.bytes_of(weight, share))


@pytest.mark.parametrize(
    ("before", "after", "same", "faithful"),
    [
        (0.99, 0.9, True, True),
        (0.99, 0.88, True, False),
        (0.99, 0.95, False, False),
        (0.23, 0.14, True, True),  # a fall of 0.09 is within the tolerance at any level
        (0.15, 0.07, True, False),  # but half of a small probability is another answer
    ],
)
def test_what_a_faithful_trace_keeps(before, after, same, faithful):
    assert Auto((), LADDER, (), 0.9).is_faithful(Fidelity(same, before, after, 0.5)) == faithful


def test_agreement_by_hand():
    dense, trace = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    p, q = dense.double().softmax(1), trace.double().softmax(1)
    found = agreement(dense, trace)
    assert found["agreement"] == 0.5 and found["kl"] == pytest.approx(float((p * (p / q).log()).sum() / 2))
    assert agreement(dense, dense) == {"agreement": 1.0, "kl": 0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fidelity": 0.0}, "schedule.fidelity=0: give a number above 0"),
        ({"fidelity": 1.5}, "schedule.fidelity=1.5"),
        ({"ladder": ()}, "schedule.ladder"),
        ({"ladder": (0.5, 1.0)}, "schedule.ladder"),
        ({"last_resort": (0.0,)}, "schedule.last_resort"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        schedule.auto(find_layers(small()), None, **settings)


def test_names_of_hand_set_shares_are_checked():
    with pytest.raises(UserError, match="matches no layer"):
        schedule.settle_shares(schedule.auto, find_layers(small()), None, {"hed": 0.5})
