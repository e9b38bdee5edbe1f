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

__all__ = ["Method", "adjusted_p"]

Method = Literal["benjamini-hochberg", "holm"]
_NAMES: dict[Method, str] = {"benjamini-hochberg": "fdr_bh", "holm": "holm"}


def adjusted_p(p: Sequence[float], *, method: Method, look: int = 1) -> list[float]:
    """P values, adjusted for their number and the number of the look (see `looks`)."""
    # one has no others; and `multipletests` collects garbage, for up to half a second
    adjusted = p if len(p) < 2 else multipletests(p, method=_NAMES[method])[1]
    return [min(1.0, float(value) / share_of_look(look)) for value in adjusted]
