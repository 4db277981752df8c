"""hessians -> shares: the traces that still say about the image what the dense network says.

One of them, which differs most from the dense network, is the trace; others are spread over depth and share. A second
search prunes the head as well, for visualizations. No mask and no label decides, only the dense network's own answer.
docs/schedules.md has the comparison behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2, prod

from torch import nn

from spade_cli.networks.replay import Replay
from spade_cli.pruning.draft import Draft
from spade_cli.pruning.fidelity import LEAST_KEPT, Judge
from spade_cli.pruning.solvers.pruner import has_ladder
from spade_cli.pruning.trace import Trace
from spade_cli.records import Fidelity, Trial

LADDER = (0.99, 0.98, 0.97, 0.95, 0.93, 0.9)
LAST_RESORT = (0.8, 0.7, 0.6, 0.5)  # of the last block
HEAD = (*LADDER, *LAST_RESORT)  # of the target's row of the head, where it is pruned as well
# Channels that the row reads at least. With fewer, pictures were blank or showed neither class nor symbol.
LEAST_READ = 6
# Columns from which a layer is solved at all shares of the ladder together. It saves most of the time where a layer is
# wide. Elsewhere the shares that the search does not come to would cost more than the others save.
AHEAD_FROM = 1024


@dataclass(frozen=True)
class Auto:
    """Shares that are found for each image, once the statistics of the candidates are there."""

    candidates: tuple[str, ...]  # layers, in the order of `find_layers`
    ladder: tuple[float, ...]  # shares to try, sparsest first
    last_resort: tuple[float, ...]  # those to try in the last block where none of the ladder is faithful
    fidelity: float  # the top-1 stays, and the question's probability falls by no more than 1 - fidelity, nor by half
    head: tuple[str, ...] = ()  # the layers of the head, if they are no candidates: pruned for visualizations only
    head_shares: tuple[float, ...] = HEAD  # shares to try for the head, sparsest first; none: it stays dense

    def is_faithful(self, found: Fidelity) -> bool:
        """Whether a pruned network still gives the answer that is to be explained."""
        fallen = found.dense - found.pruned > 1 - self.fidelity or found.pruned < LEAST_KEPT * found.dense
        return found.same_prediction and not fallen


@dataclass
class Search:
    """The trials of one image, and the draft they are made with."""

    draft: Draft
    blocks: Mapping[str, Sequence[str]]  # by name, from the output to the input
    auto: Auto
    judge: Judge
    given: Mapping[str, float] = field(default_factory=dict)  # layer -> share, whatever is found for the others
    on_trial: Callable[[Trial], None] | None = None
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        changing = [[self.draft.weight(layer) for layer in block] for block in self.blocks.values()]
        self.replay = Replay(self.draft.model, changing)

    @property
    def most_trials(self) -> int:
        """No search makes more trials: steps and halvings of each share, whose depths add up to all blocks at most."""
        if not self.blocks:
            return 0
        shares = len(self.auto.ladder)
        return int(2 * shares * (1 + log2(1 + len(self.blocks) / shares))) + len(self.auto.last_resort)

    def run(self) -> Trial | None:
        """Leave the draft at the faithful trial that differs most (largest KL over the samples); None: at dense.

        For each share of the ladder, sparsest first, the deepest run of blocks from the output that is faithful is
        found: fidelity falls with depth, and a lower share reaches at least as deep as the one before. Where all
        blocks are reached a lower share would only differ less. Where nothing is faithful, the last block alone gets
        the first share of the last resort that is.
        """
        self._descend(0)
        if self.blocks and not any(trial.faithful for trial in self.trials):
            for share in self.auto.last_resort:
                if self._try(share, 1).faithful:
                    break  # no deeper: shares this low gain nothing in early layers
        return self._settle()

    def trace(self) -> Trace:
        """Search, and the trace that was found, with the trials that led to it."""
        self.run()
        return self.draft.trace(tuple(self.trials))

    def spread(self, most: int) -> list[Trial]:
        """Up to `most` faithful trials: the one that was chosen, and others spread over the ladder.

        The deepest of each share are taken, at even steps from the sparsest share to the least sparse.
        """
        trials = self._deepest_trials()
        others = sorted(trials[1:], key=_last_share, reverse=True)
        count = min(most - 1, len(others))
        steps = [round(step * (len(others) - 1) / max(1, count - 1)) for step in range(count)]
        return [*trials[:1], *(others[step] for step in steps)]

    def _deepest_trials(self) -> list[Trial]:
        """The deepest faithful trial of each share, and the chosen one for its share; those that differ most first."""
        faithful = [trial for trial in self.trials if trial.faithful]
        by_depth = sorted(faithful, key=lambda trial: len(trial.shares))
        chosen = [max(faithful, key=_difference)] if faithful else []
        found = {_last_share(trial): trial for trial in [*by_depth, *chosen]}
        return sorted(found.values(), key=_difference, reverse=True)

    def copy_traces(self, trials: Sequence[Trial]) -> tuple[nn.Module, ...]:
        """The networks of these trials; the draft's layers are as before, but for the head, which is dense."""
        before = self.draft.shares
        networks = []
        for trial in trials:
            self._set(trial.shares)
            networks.append(self.draft.copy())
        self._set({})
        self.draft.set(before)
        return tuple(networks)

    def _descend(self, reached: int) -> None:
        """For each share of the ladder, go as deep as is faithful, from blocks that are faithful already."""
        start = reached
        for index, share in enumerate(self.auto.ladder):
            if reached == len(self.blocks):
                break
            self._solve_ahead(reached, self.auto.ladder[index:])
            deepest = self._deepest(share, reached)
            if deepest == reached > start:
                self._try(share, reached)
            reached = deepest

    def _settle(self) -> Trial | None:
        """Leave the draft at the faithful trial that differs most."""
        best = max((trial for trial in self.trials if trial.faithful), key=_difference, default=None)
        self._set(best.shares if best is not None else {})
        return best

    def _solve_ahead(self, reached: int, shares: Sequence[float]) -> None:
        """Solve the wide layers that each share from now on begins with at all of these shares together.

        Until a block is faithful the last one may still be needed for the last resort.
        """
        if not has_ladder(self.draft.pruner):
            return
        for layer in self._list_layers(reached + 1):
            if prod(self.draft.layers[layer].shape[1:]) >= AHEAD_FROM:
                self.draft.solve(layer, shares)
                if reached:
                    self.draft.free(layer)

    def _list_layers(self, depth: int) -> list[str]:
        """The layers of the last blocks that trials solve as a whole."""
        return [layer for block in list(self.blocks)[:depth] for layer in self.blocks[block]]

    def _deepest(self, share: float, reached: int) -> int:
        """How many blocks are faithful at this share, `reached` where no more are.

        Steps of 1, 2, 4 blocks until one is too far, then halves: no block far behind the deepest one is solved.
        """
        low, high, step = reached, len(self.blocks) + 1, 1
        while high - low > 1:
            if high > len(self.blocks):
                depth, step = min(low + step, len(self.blocks)), 2 * step
            else:
                depth = (low + high) // 2
            low, high = (depth, high) if self._try(share, depth).faithful else (low, depth)
        return low

    def _try(self, share: float, depth: int) -> Trial:
        shares = self._shares(share, depth)
        self._set(shares)
        fidelity = self.judge(lambda images: self.replay.ask(images, depth), self.auto.is_faithful)
        trial = Trial(shares, fidelity, self.auto.is_faithful(fidelity))
        self.trials.append(trial)
        if self.on_trial is not None:
            self.on_trial(trial)
        return trial

    def _shares(self, share: float, depth: int) -> dict[str, float]:
        """What a trial prunes: the last blocks, all at one share."""
        return dict.fromkeys(list(self.blocks)[:depth], share)

    def _set(self, shares: Mapping[str, float]) -> None:
        found = {layer: share for block, share in shares.items() for layer in self.blocks[block]}
        self.draft.set({**found, **self.given})


@dataclass
class HeadSearch(Search):
    """The search for visualizations: the head is the first block, and it has a share of its own.

    A class neuron that still listens to every channel shows everything that its class can look like. So the target's
    row of the head goes first: it gets the highest of `head_shares` that is faithful while all else is dense and that
    leaves it LEAST_READ channels. Then the blocks before the head are pruned as deep as they can be. The head's other
    rows stay dense: what they would say against the target is part of the answer. Of a contrast the rows of all its
    classes are pruned, each by its own budget.
    """

    rows: tuple[int, ...] = (0,)  # of the head: those of the classes asked about

    def __post_init__(self) -> None:
        super().__post_init__()
        self.head = next(iter(self.blocks))
        self.head_share = 0.0

    def run(self) -> Trial | None:
        """As `Search.run`, with the row pruned in every trial; None, and all dense, where none of its shares holds."""
        (layer,) = self.blocks[self.head]
        channels = prod(self.draft.layers[layer].shape[1:])
        for share in self.auto.head_shares:
            if channels - round(channels * share) >= min(LEAST_READ, channels):
                self.head_share = share
                if self._try(share, 1).faithful:
                    self._descend(1)
                    break
        return self._settle()

    def leave(self, shares: Mapping[str, float]) -> None:
        """Set the draft to these shares of its layers, the head dense."""
        self._set({})
        self.draft.set(shares)

    @property
    def most_trials(self) -> int:
        """No search makes more trials."""
        return len(self.auto.head_shares) + super().most_trials

    def spread(self, most: int) -> list[Trial]:
        """Up to `most` faithful trials of different shares, those that differ most from the dense network first.

        Shallow traces would bring back what the deep ones have shed.
        """
        return self._deepest_trials()[:most]

    def _list_layers(self, depth: int) -> list[str]:
        return super()._list_layers(depth)[1:]  # of the head single rows are solved, and nothing else

    def _shares(self, share: float, depth: int) -> dict[str, float]:
        return {**super()._shares(share, depth), self.head: self.head_share}

    def _set(self, shares: Mapping[str, float]) -> None:
        super()._set({block: share for block, share in shares.items() if block != self.head})
        (layer,) = self.blocks[self.head]
        self.draft.set_rows(layer, self.rows, shares.get(self.head, 0.0))


def _last_share(trial: Trial) -> float:
    return list(trial.shares.values())[-1]  # of the block that was reached last: the head has a share of its own


def _difference(trial: Trial) -> float:
    return trial.fidelity.kl or 0.0
