"""What pairs of networks are evidence of: a difference between all networks, or between those that
train.

A claim about all networks must survive failures that were not seen (see `failures`). Where it does
not, the pairs in which both networks trained are compared by themselves, and the claim is about
networks that train. Fewer than 30 pairs support no claim of that kind (see
`confirm_seeds.FEWEST_PAIRS`), and none about a loss, which has no bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from studies.analysis.statistics.alpha_spending import level_of_look
from studies.analysis.statistics.comparison import Comparison, compare
from studies.analysis.statistics.equivalence import Decision, Outcome, decide, equivalence_test
from studies.analysis.statistics.failures import Failures, UnseenFailures, failures
from studies.analysis.statistics.multiplicity import Method, adjusted_p
from studies.definition.arms import Pair
from studies.definition.confirm_seeds import FEWEST_PAIRS

__all__ = ["Claim", "CountedP", "Evidence", "claim_of", "counted_p", "evidence_of"]


@dataclass(frozen=True)
class Evidence:
    """The pairs behind a comparison.

    Args:
        everyone: the comparison of all pairs.
        trained: that of the pairs in which both networks trained, over the same searches if there
            are several; None with fewer than two.
        failures: how often networks fail; None for a loss.
        unseen: what they say of failures that were not seen; None for a loss.
    """

    everyone: Comparison
    trained: Comparison | None
    failures: Failures | None
    unseen: UnseenFailures | None = None

    def failures_among(self, counted: CountedP | None) -> Failures | None:
        """How often networks fail, with an interval that counts all comparisons (Bonferroni)."""
        if counted is None or self.failures is None or self.unseen is None:
            return self.failures
        low, high = self.unseen.interval(1 - counted.level)
        return replace(self.failures, low=low, high=high)

    def with_unseen(self, differ: float, margin: float | None) -> tuple[float, float | None]:
        """The p values of a difference, given that of the pairs alone, and of one within a margin,
        which count failures that were not seen: each the larger of two, both of which must
        reject."""
        same = None if margin is None else equivalence_test(self.everyone, margin)
        if self.unseen is None:
            return differ, same
        unseen = self.unseen.p_of_difference(positive=self.everyone.mean > 0)
        if margin is None or same is None:
            return max(differ, unseen), None
        return max(differ, unseen), max(same, self.unseen.p_within(margin))


class CountedP(NamedTuple):
    """The p values of a comparison, which count all comparisons of its family.

    Args:
        differ: that the arms differ, by the pairs alone.
        same: that they do so by less than the margin; None without one.
        sure_differ: the same, whatever failures were not seen.
        sure_same: likewise.
        trained_differ: the same among networks that train.
        trained_same: likewise.
        level: the level at which intervals of all comparisons together err in 5% of looks, or less
            in later ones.
    """

    differ: float
    same: float | None
    sure_differ: float
    sure_same: float | None
    trained_differ: float
    trained_same: float | None
    level: float

    def of(self, claim: Claim) -> float:
        """The p value of the difference that a claim is about, by the pairs alone."""
        return self.trained_differ if claim.of_trained else self.differ


@dataclass(frozen=True)
class Claim:
    """What is claimed of a comparison.

    Args:
        decision: the decision.
        of_trained: whether it is about networks that train alone.
        withheld: what these pairs by themselves would decide, if what they did not see could undo
            it; None if nothing is withheld.
    """

    decision: Decision
    of_trained: bool = False
    withheld: Outcome | None = None

    @property
    def holds_for(self) -> str:
        """What it is about."""
        return "networks that train" if self.of_trained else "all networks"


def evidence_of(
    networks: pd.DataFrame,
    pair: Pair,
    *,
    is_accuracy: bool,
    compared: np.ndarray | None = None,
    searches: Sequence[int] | None = None,
    level: float = 0.95,
    below: float | None = None,
    chance: float = 0.0,
) -> Evidence:
    """The evidence in pairs of networks.

    Args:
        networks: the metric, one row per seed, one column per arm.
        pair: the arms.
        is_accuracy: whether the metric is one, of which a network can fall short.
        compared: differences of the searches, one each; None: the pairs are compared themselves.
        searches: number of the search that each row belongs to; None: one.
        level: the level of the intervals.
        below: accuracy below which a network failed; None: see `failures`.
        chance: accuracy of guessing.
    """
    difference = (networks[pair.arm] - networks[pair.reference]).to_numpy(dtype=float)
    number = np.zeros(len(networks)) if searches is None else np.asarray(searches)
    groups = _grouped(difference, number)
    everyone = compare(difference if compared is None else compared, level=level, pairs=groups)
    if not is_accuracy:
        return Evidence(everyone, None, None)
    failed, unseen = failures(networks, pair, below=below, chance=chance)
    trained = (networks[list(pair)] >= failed.below).all(axis=1).to_numpy()
    if trained.all():
        return Evidence(everyone, everyone, failed, unseen)
    groups = _grouped(difference[trained], number[trained])
    own = np.array([group.mean() for group in groups]) if compared is not None else None
    values = difference[trained] if own is None else own
    some = compare(values, level=level, pairs=groups) if len(values) > 1 else None
    return Evidence(everyone, some, failed, unseen)


def _grouped(values: np.ndarray, number: np.ndarray) -> list[np.ndarray]:
    return [values[number == one] for one in np.unique(number)]


def counted_p(
    evidence: Sequence[Evidence],
    margin: float | None,
    *,
    method: Method,
    look: int = 1,
    differ: Sequence[tuple[float, float]] | None = None,
) -> list[CountedP]:
    """The p values of a family of comparisons, adjusted for their number and the look; `differ`
    replaces those of the difference, of all networks and of those that train."""
    trained = [one.trained or one.everyone for one in evidence]
    if differ is None:
        differ = [(one.everyone.p, some.p) for one, some in zip(evidence, trained, strict=True)]
    adjusted = partial(adjusted_p, method=method, look=look)
    level = level_of_look(look, len(evidence))
    sure = [one.with_unseen(p, margin) for one, (p, _) in zip(evidence, differ, strict=True)]
    of_differences = zip(
        adjusted([p for p, _ in differ]),
        adjusted([p for p, _ in sure]),
        adjusted([p for _, p in differ]),
        strict=True,
    )
    if margin is None:
        return [CountedP(a, None, b, None, c, None, level) for a, b, c in of_differences]
    of_equivalence = zip(
        adjusted([equivalence_test(one.everyone, margin) for one in evidence]),
        adjusted([same for _, same in sure if same is not None]),
        adjusted([equivalence_test(some, margin) for some in trained]),
        strict=True,
    )
    return [
        CountedP(a, d, b, e, c, f, level)
        for (a, b, c), (d, e, f) in zip(of_differences, of_equivalence, strict=True)
    ]


def claim_of(
    evidence: Evidence,
    margin: float | None = None,
    *,
    higher_is_better: bool,
    counted: CountedP | None = None,
    survivors_only: bool = False,
    plans: bool = True,
) -> Claim:
    """What is claimed.

    Args:
        evidence: the pairs.
        margin: the margin of equivalence; None claims none.
        higher_is_better: whether the metric is maximised.
        counted: p values that count all comparisons; None: the comparison's own.
        survivors_only: see `equivalence.decide`.
        plans: whether to say how many seeds an undecided comparison needs, which takes a while.
    """
    everyone, trained = evidence.everyone, evidence.trained

    def decided(comparison: Comparison, p: float | None, p_same: float | None) -> Decision:
        return decide(
            comparison,
            margin,
            higher_is_better=higher_is_better,
            p=p,
            p_equivalence=p_same,
            least_alpha=None if counted is None else 1 - counted.level,
            survivors_only=survivors_only,
            plans=plans,
        )

    whole = decided(everyone, *((counted.differ, counted.same) if counted else (None, None)))
    if evidence.failures is None:
        if whole.outcome == "undecided":
            return Claim(_undecided(whole, everyone))
        if not everyone.is_small:
            return Claim(whole)
        return Claim(_undecided(whole, everyone), withheld=whole.outcome)
    if counted is None:
        sure = decided(everyone, *evidence.with_unseen(everyone.p, margin))
    else:
        sure = decided(everyone, counted.sure_differ, counted.sure_same)
    if sure.outcome != "undecided":
        return Claim(sure)
    withheld, needed = whole.outcome, None
    if trained is not None:
        p = (counted.trained_differ, counted.trained_same) if counted else (None, None)
        part = decided(trained, *p)
        if part.outcome != "undecided" and not trained.is_small:
            return Claim(part, of_trained=True)
        withheld = part.outcome if withheld == "undecided" else withheld
        needed = _needed(part, trained, everyone)
    undecided = _undecided(whole, everyone)
    enough = [number for number in (undecided.seeds_needed, needed) if number is not None]
    undecided = replace(undecided, seeds_needed=min(enough, default=None))
    return Claim(undecided, withheld=None if withheld == "undecided" else withheld)


def _needed(part: Decision, trained: Comparison, everyone: Comparison) -> int | None:
    """About how many pairs or searches would decide about networks that train, as failures take
    some of their pairs; None if that is unknown."""
    needed = part.seeds_needed
    if needed is None and part.outcome == "undecided":
        return None
    few = math.ceil(FEWEST_PAIRS * trained.n / trained.pairs) if trained.is_small else 0
    return max(everyone.n + 1, math.ceil(max(needed or 0, few) * everyone.n / trained.n))


def _undecided(decision: Decision, comparison: Comparison) -> Decision:
    """The same without its claim, if it has one. Pairs of one search are counted as no fewer than
    the fewest that allow one; a claim alone does not say how many would keep it."""
    small = comparison.is_small and comparison.n == comparison.pairs
    needed, claims = decision.seeds_needed, decision.outcome != "undecided"
    if small and (claims or needed is not None):
        needed = max(FEWEST_PAIRS, needed or 0)
    return replace(decision, outcome="undecided", seeds_needed=needed)
