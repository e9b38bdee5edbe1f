"""What pairs of networks are evidence of: a difference between all networks, or between those that
train.

A claim about all networks must survive failures that were not seen (see `failures`). Where it does
not, the pairs in which both networks trained are compared by themselves, and the claim is about
networks that train. Fewer than 30 pairs support no claim of that kind (see
`comparison.FEWEST_PAIRS`), and none about a loss, which has no bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from studies.analysis.statistics.comparison import FEWEST_PAIRS, Comparison, compare
from studies.analysis.statistics.equivalence import Decision, Outcome, decide
from studies.analysis.statistics.failures import Failures, failures
from studies.analysis.statistics.multiplicity import Method, p_values
from studies.definition.arms import Pair

__all__ = ["Claim", "CountedP", "Evidence", "claim_of", "counted_p", "evidence_of"]


@dataclass(frozen=True)
class Evidence:
    """The pairs behind a comparison.

    Args:
        everyone: the comparison of all pairs.
        trained: that of the pairs in which both networks trained, over the same searches if there
            are several; None with fewer than two.
        failures: how often networks fail; None for a loss.
    """

    everyone: Comparison
    trained: Comparison | None
    failures: Failures | None


class CountedP(NamedTuple):
    """The p values of a comparison, which count all comparisons of its family.

    Args:
        differ: that the arms differ.
        same: that they do so by less than the margin; None without one.
        trained_differ: the same among networks that train.
        trained_same: likewise.
    """

    differ: float
    same: float | None
    trained_differ: float
    trained_same: float | None

    def of(self, claim: Claim) -> float:
        """The p value of the difference that a claim is about."""
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
    failed = failures(networks, pair, below=below, chance=chance)
    trained = (networks[list(pair)] >= failed.below).all(axis=1).to_numpy()
    if trained.all():
        return Evidence(everyone, everyone, failed)
    groups = _grouped(difference[trained], number[trained])
    own = np.array([group.mean() for group in groups]) if compared is not None else None
    values = difference[trained] if own is None else own
    some = compare(values, level=level, pairs=groups) if len(values) > 1 else None
    return Evidence(everyone, some, failed)


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
    both = []
    for which, comparisons in enumerate(
        ([one.everyone for one in evidence], [one.trained or one.everyone for one in evidence])
    ):
        own = None if differ is None else [values[which] for values in differ]
        both.append(p_values(comparisons, margin, method=method, look=look, differ=own))
    return [CountedP(*values) for values in zip(*both[0], *both[1], strict=True)]


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
    everyone, failed = evidence.everyone, evidence.failures
    trained = evidence.trained

    def decided(comparison: Comparison, p: float | None, p_same: float | None) -> Decision:
        return decide(
            comparison,
            margin,
            higher_is_better=higher_is_better,
            p=p,
            p_equivalence=p_same,
            survivors_only=survivors_only,
            plans=plans,
        )

    whole = decided(everyone, *((counted.differ, counted.same) if counted else (None, None)))
    if failed is None:
        if whole.outcome == "undecided":
            return Claim(_undecided(whole, everyone))
        if not everyone.is_small:
            return Claim(whole)
        return Claim(_undecided(whole, everyone), withheld=whole.outcome)
    if whole.outcome != "undecided" and not _undone(whole, everyone, failed):
        return Claim(_secured(whole, failed))
    withheld = whole.outcome
    if trained is not None:
        p = (counted.trained_differ, counted.trained_same) if counted else (None, None)
        part = decided(trained, *p)
        if part.outcome != "undecided" and not trained.is_small:
            return Claim(part, of_trained=True)
        withheld = part.outcome if withheld == "undecided" else withheld
    undecided = _undecided(whole, everyone)
    return Claim(undecided, withheld=None if withheld == "undecided" else withheld)


def _undone(decision: Decision, comparison: Comparison, failed: Failures) -> bool:
    """Whether failures that were not seen could undo a decision."""
    if decision.outcome == "equivalent":
        return not _is_small(decision, failed)
    return failed.low <= 0 if comparison.mean > 0 else failed.high >= 0


def _secured(decision: Decision, failed: Failures) -> Decision:
    """The same without `by less than the margin`, if failures that were not seen could undo that
    alone."""
    sure: dict[Outcome, Outcome] = {
        "better_within_margin": "better",
        "worse_within_margin": "worse",
    }
    if decision.outcome not in sure or _is_small(decision, failed):
        return decision
    return replace(decision, outcome=sure[decision.outcome])


def _is_small(decision: Decision, failed: Failures) -> bool:
    """Whether the difference is within the margin whatever was not seen."""
    return max(-failed.low, failed.high) < (decision.margin or 0.0)


def _undecided(decision: Decision, comparison: Comparison) -> Decision:
    """The same without its claim, if it has one. Pairs of one search are counted as no fewer than
    the fewest that allow one; a claim alone does not say how many would keep it."""
    small = comparison.is_small and comparison.n == comparison.pairs
    needed, claims = decision.seeds_needed, decision.outcome != "undecided"
    if small and (claims or needed is not None):
        needed = max(FEWEST_PAIRS, needed or 0)
    return replace(decision, outcome="undecided", seeds_needed=needed)
