"""A block that workers train in tests."""

from __future__ import annotations

from dynloss_core import keys
from studies.blocks.block import Block, Trial

BLOCK_OF_TWO = Block(
    keys.SEARCH,
    keys.DYNAMICAL,
    0,
    (
        Trial(0, {"period": 20, "amplitude": 10.0, "learning_rate": 0.5}),
        Trial(1, {"period": 30, "amplitude": 5.0, "learning_rate": 1.0}),
    ),
    (0, 1),
)
