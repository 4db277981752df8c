"""What a tuner searches: a share of the ladder for each block; and what it learns about a setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

BlockShares = dict[str, float]  # by block, from the output on; a block that is not there is dense


@dataclass(frozen=True)
class Score:
    """How a setting did on the tuning images.

    gain: mean over the images of the paired gain over the dense network, larger is better; None where the trial was
    broken off because it lost too many images. so_far: the mean over the `seen` images before that.
    """

    gain: float | None
    so_far: float
    seen: int
    lost: int  # images whose top-1 changed, or of which a map could not be made


@dataclass(frozen=True)
class Space:
    """blocks: from the output to the input. ladder: shares a pruned block may have, ascending."""

    blocks: Sequence[str]
    ladder: Sequence[float]

    def shares(self, steps: Mapping[str, int]) -> BlockShares:
        """Shares by block from steps of the ladder, 0 for dense."""
        return {block: self.ladder[steps[block] - 1] for block in self.blocks if steps.get(block, 0)}


Try = Callable[[BlockShares], Score]  # measures a setting, or reads what was measured of it before
