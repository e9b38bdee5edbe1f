r"""The luck of the search: in another search, an arm has another winner and a comparison another
outcome.

Symbols: R searches; n fresh seeds of each; d_r, the mean paired difference between the winners of
search r; s, the standard deviation of the differences of pairs within a search.

An interval over the seeds of one search is about its two winners. But a study asks how two losses
compare if each is searched in this way. For that question the searches are the sample: the test is
on the R numbers d_r, with R - 1 degrees of freedom. Their variance has two parts,

.. math:: \mathrm{var}(d_r) = \sigma_\mathrm{search}^2 + \frac{s^2}{n},

which analysis of variance separates (one-way, random effects; Searle, Casella and McCulloch 1992,
Variance Components, section 3.6). The first does not shrink with n: beyond
:math:`n = s^2 / \sigma_\mathrm{search}^2` more searches help more than more seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SearchVariance", "search_variance"]


@dataclass(frozen=True)
class SearchVariance:
    """What the spread of a comparison over searches is made of.

    Args:
        searches: R.
        fewest: the fewest seeds of a search.
        most: the most seeds of a search.
        differences: (R,) d_r.
        of_search: standard deviation due to the searches, 0 if the seeds explain all of it.
        of_seeds: s, pooled over the searches; None with one seed each.
    """

    searches: int
    fewest: int
    most: int
    differences: tuple[float, ...]
    of_search: float
    of_seeds: float | None

    @property
    def seeds(self) -> str:
        """How many seeds each search has: `20`, `18 to 20`."""
        return f"{self.most}" if self.fewest == self.most else f"{self.fewest} to {self.most}"

    def sentence(self) -> str:
        """How the spread is divided between searches and seeds."""
        text = f"between searches the difference has a standard deviation of {self.of_search:.2g}"
        if self.of_seeds is not None:
            of_mean = self.of_seeds / math.sqrt(self.fewest)
            text += (
                f" beside the {of_mean:.2g} that {self.seeds} seeds leave "
                f"(between pairs of one search {self.of_seeds:.2g})"
            )
        return text


def search_variance(by_search: Sequence[np.ndarray]) -> SearchVariance:
    """The parts of the spread over searches.

    Args:
        by_search: (n,) differences of the pairs of each search, for at least two searches.

    Raises:
        ValueError: with fewer than two searches.
    """
    if len(by_search) < 2:
        raise ValueError(f"{len(by_search)} searches: at least two are needed")
    counts = np.array([len(differences) for differences in by_search])
    means = np.array([differences.mean() for differences in by_search])
    free = int((counts - 1).sum())
    within = None
    if free:
        within = (
            sum(((differences - differences.mean()) ** 2).sum() for differences in by_search) / free
        )
    noise = (within or 0.0) * float((1 / counts).mean())
    added = max(0.0, float(means.var(ddof=1)) - noise)
    return SearchVariance(
        searches=len(by_search),
        fewest=int(counts.min()),
        most=int(counts.max()),
        differences=tuple(float(mean) for mean in means),
        of_search=math.sqrt(added),
        of_seeds=None if within is None else math.sqrt(within),
    )
