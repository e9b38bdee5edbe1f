"""How many fresh seeds a round takes: the fewest that show anything, and the most."""

from __future__ import annotations

__all__ = ["FEWEST_PAIRS", "MAX_CONFIRM_SEEDS", "MIN_CONFIRM_SEEDS"]

FEWEST_PAIRS = 30
"""Fewer pairs of networks may all miss a peak that holds a fifth of them: 20 do once in a hundred
times, six once in four, and no correction helps then (`make calibrate`)."""

MIN_CONFIRM_SEEDS = FEWEST_PAIRS
MAX_CONFIRM_SEEDS = 100
