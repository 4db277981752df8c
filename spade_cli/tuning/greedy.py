"""Back to front, as the paper tunes: block by block from the output, each with its best share given those before."""

import os
import random

from spade_cli.tuning.space import BlockShares, Space, Try


def greedy(space: Space, attempt: Try) -> BlockShares:
    """The shares that are left after one pass over the blocks; a block that gains nothing stays dense.

    All shares of a block are tried before one is taken, so their order changes nothing; it is another one in each
    process, so that processes at work on one folder do different trials.
    """
    dice = random.Random(os.getpid())
    best: BlockShares = {}
    most = 0.0  # the dense network's gain over itself
    for block in space.blocks:
        settings = {share: {**best, block: share} for share in space.ladder}
        gains = {share: attempt(settings[share]).gain for share in dice.sample(list(space.ladder), len(space.ladder))}
        for share in space.ladder:
            gain = gains[share]
            if gain is not None and gain > most:
                best, most = settings[share], gain
    return best
