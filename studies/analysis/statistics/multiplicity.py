"""P values of several comparisons, corrected for their number.

Over sizes or settings, a small share of the claims may be false (Benjamini and Hochberg 1995, J. R.
Stat. Soc. B 57:289); over named pairs of arms, none may be (Holm 1979, Scand. J. Stat. 6:65).
Claims that arms differ and claims that they are equivalent are two families.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from statsmodels.stats.multitest import multipletests

from studies.analysis.statistics.alpha_spending import share_of_look
from studies.analysis.statistics.comparison import Comparison
from studies.analysis.statistics.equivalence import equivalence_test

__all__ = ["Method", "p_values"]

Method = Literal["benjamini-hochberg", "holm"]
_NAMES: dict[Method, str] = {"benjamini-hochberg": "fdr_bh", "holm": "holm"}


def p_values(
    comparisons: Sequence[Comparison],
    margin: float | None,
    *,
    method: Method,
    look: int = 1,
    differ: Sequence[float] | None = None,
) -> tuple[list[float], list[float] | list[None]]:
    """The p values of the differences, and of the two one-sided tests against a margin (None
    without one), adjusted for the number of comparisons and the number of the look (see `looks`).
    If given, the p values `differ` replace those of the differences."""
    own = [comparison.p for comparison in comparisons] if differ is None else differ
    adjusted = _adjusted(own, method, look)
    if margin is None:
        return adjusted, [None] * len(comparisons)
    tests = [equivalence_test(comparison, margin) for comparison in comparisons]
    return adjusted, _adjusted(tests, method, look)


def _adjusted(p: Sequence[float], method: Method, look: int) -> list[float]:
    # one has no others; and `multipletests` collects garbage, for up to half a second
    adjusted = p if len(p) == 1 else multipletests(p, method=_NAMES[method])[1]
    return [min(1.0, float(value) / share_of_look(look)) for value in adjusted]
