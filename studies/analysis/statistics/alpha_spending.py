r"""Rounds of fresh seeds, each of which is a look: look often enough, and you see what you like.

The first look can err as often as a single look would. All later ones together can err as often
again: the k-th, k > 1, gets the share

.. math:: \frac{1}{k (k - 1)}, \qquad \sum_{k \ge 2} \frac{1}{k (k - 1)} = 1,

of alpha, which holds whatever the looks have in common, and however many there will be (Bonferroni;
fixing the shares beforehand is alpha spending, Lan and DeMets 1983, Biometrika 70:659). So a false
`better` occurs in at most 5% of studies, 2.5% in the first look, while five looks at 2.5% each
would give 12%. Taking nothing from the first look is a choice: most studies have no other.
"""

from __future__ import annotations

__all__ = ["level_of_look", "share_of_look"]

_ALPHA = 0.05


def share_of_look(number: int) -> float:
    """The share of alpha that a look can spend.

    Args:
        number: number of the look, from 1.

    Raises:
        ValueError: for a number below 1.
    """
    if number < 1:
        raise ValueError(f"looks are counted from 1, got {number}")
    return 1.0 if number == 1 else 1.0 / (number * (number - 1))


def level_of_look(number: int, comparisons: int = 1) -> float:
    """The level of the intervals that a look shows: 95% at the first.

    Args:
        number: as for `share_of_look`.
        comparisons: how many intervals share the error (Bonferroni).
    """
    return 1 - _ALPHA * share_of_look(number) / comparisons
