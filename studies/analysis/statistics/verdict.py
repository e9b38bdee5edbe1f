"""Does one arm beat another, such as the dynamical loss the static one? A paired test on fresh
seeds.

Both arms share data, initialisation and batch order at each seed, so the difference is taken within
seeds, and the test is a paired t test corrected for skewness. Wilcoxon's signed-rank test, which
assumes no normal distribution, is a second check. What networks not yet seen could undo is not
claimed (see `evidence`). That neither arm beats the other is a separate claim, tested
against a margin set beforehand (see `equivalence`).

With one search, the verdict is about its two winners. With several, each with its own fresh seeds,
it is about searching: each pair is then a search, with each arm's mean over its seeds (see
`search_variance`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynloss_core import keys
from studies.analysis.statistics.comparison import Comparison
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS, Outcome
from studies.analysis.statistics.failures import Failures
from studies.analysis.statistics.search_variance import SearchVariance
from studies.definition.arms import Pair
from studies.definition.confirm_seeds import FEWEST_PAIRS

__all__ = [
    "ArmSummary",
    "Verdict",
    "interval_in_words",
    "withheld_because",
]


@dataclass(frozen=True)
class ArmSummary:
    """One arm over the fresh seeds.

    Args:
        mean: the mean of the metric.
        sd: standard deviation over seeds.
        diverged: how many of the networks diverged.
    """

    mean: float
    sd: float
    diverged: int


@dataclass(frozen=True)
class Verdict:
    """The paired comparison of two arms.

    Args:
        pair: the arms.
        outcome: the outcome of the pair's first arm (see `equivalence.Decision`). Always
            `undecided` if a loss was compared and some networks diverged: the survivors alone would
            not be a fair sample.
        metric: what was compared.
        difference: mean over pairs of the first arm minus the second.
        median: the median of the same differences.
        low: lower end of the interval of the mean.
        high: upper end.
        level: the level of the interval.
        n: number of what is compared: seeds or, with a `luck`, searches.
        pairs: number of pairs of networks behind it.
        effect_size: Cohen's d_z; None if all differences are equal.
        p_t: two-sided p value of the paired t test.
        p: that which decides `better` and `worse`: the larger of this and the one corrected for
            skewness (see `comparison`).
        p_wilcoxon: two-sided p value of the signed-rank test.
        p_equivalence: p value of the two one-sided tests; None without a margin.
        margin: largest difference that would not matter, in the metric's unit.
        seeds_needed: about how many seeds would decide an undecided comparison; None: unknown.
        arm: the first arm by itself.
        reference: the second arm by itself.
        failures: failed networks, and how unseen failures may change the result; None for a loss.
        luck: how the searches differ; None with one search.
        of_trained: whether the outcome is about networks that train alone (see `evidence`).
        trained: the same comparison over pairs in which both networks trained; None if all did,
            for a loss, or with fewer than two pairs.
        withheld: the outcome that these pairs alone would have, if what they did not see could undo
            it; None if nothing is withheld.
        matched: the first arm minus the second at the settings of the first's winner, on the same
            seeds or searches; to be better, an arm must beat both. None if that was not trained.
    """

    pair: Pair
    outcome: Outcome
    metric: str
    difference: float
    median: float
    low: float
    high: float
    level: float
    n: int
    pairs: int
    effect_size: float | None
    p_t: float
    p: float
    p_wilcoxon: float
    p_equivalence: float | None
    margin: float | None
    seeds_needed: int | None
    arm: ArmSummary
    reference: ArmSummary
    failures: Failures | None = None
    luck: SearchVariance | None = None
    matched: Comparison | None = None
    of_trained: bool = False
    trained: Comparison | None = None
    withheld: Outcome | None = None

    @property
    def unit(self) -> str:
        """What a pair is: `seed`, or `search`."""
        return "seed" if self.luck is None else "search"

    @property
    def sample(self) -> str:
        """What the verdict is based on: `20 fresh seeds of these two winners`."""
        if self.luck is None:
            return f"{self.n} fresh seeds of these two winners"
        return f"{self.n} searches of {self.luck.seeds} fresh seeds each"

    @property
    def outcome_in_words(self) -> str:
        """The outcome, and whether it is only about networks that train."""
        words = OUTCOME_IN_WORDS[self.outcome]
        return f"{words} (of networks that train)" if self.of_trained else words

    @property
    def holds_for(self) -> str:
        """What the outcome is about: `all networks`, or `networks that train` if unseen failures
        could undo it for all."""
        return "networks that train" if self.of_trained else "all networks"

    def sentence(self) -> str:
        """The verdict in words, with its uncertainty."""
        return f"{self.claim()} ({'; '.join(self.details())})"

    def claim(self) -> str:
        """What is claimed, with both means and their difference."""
        arm, reference = self.pair.losses
        published = self.pair == Pair()
        both = "The two losses" if published else f"Arms {self.pair.arm} and {self.pair.reference}"
        between = "" if published else f" between {arm} and {reference}"
        wins, loses = (f"{arm.capitalize()} {verb} {reference}" for verb in ("beats", "loses to"))
        less = f", but by less than the margin of {self.margin or 0:g}"
        claims: dict[Outcome, str] = {
            "better": wins,
            "better_within_margin": f"{wins}{less}",
            "worse": loses,
            "worse_within_margin": f"{loses}{less}",
            "equivalent": f"{both} are equivalent within ±{self.margin or 0:g}",
            "undecided": f"Undecided{between}",
        }
        claim = claims[self.outcome]
        if self.of_trained:
            claim = f"Of networks that train, {claim[0].lower()}{claim[1:]}"
        return (
            f"{claim}: {self.metric.replace('_', ' ')} {self.arm.mean:.3f} "
            f"against {self.reference.mean:.3f}, difference {self.interval()}"
        )

    def details(self) -> Iterator[str]:
        """What the claim rests on, a phrase each: the sample, then tests, failed networks, and what
        would settle it. If all differences are equal there is no interval, and the tests are sign
        tests (see `comparison`)."""
        uncertainty = "" if self._is_constant else f"{self.level * 100:.4g}% interval, "
        yield f"{uncertainty}n = {self.sample}, paired"
        if self._is_constant:
            yield f"sign test p = {self.p_t:.2g}"
        if self.outcome == "equivalent" or self.outcome.endswith("within_margin"):
            tests = "one-sided sign tests" if self._is_constant else "two one-sided tests"
            yield f"{tests} p = {self.p_equivalence:.2g}"
        if self.failures is not None and (self.failures.arm or self.failures.reference):
            failed = self.failures
            yield (
                f"{failed.arm} {self.pair.arm} and {failed.reference} {self.pair.reference} "
                f"networks failed, below {failed.below:.2f}: p = {failed.p:.2g}"
            )
        if self.of_trained and self.trained is not None:
            some = self.trained
            yield (
                f"of networks that train {interval_in_words(some.mean, some.low, some.high)} over "
                f"{some.pairs} pairs"
            )
        if self.matched is not None:
            beside = self.matched
            yield (
                f"against {self.pair.reference} at the settings of {self.pair.arm} "
                f"{interval_in_words(beside.mean, beside.low, beside.high)}"
                f"{', which leaves it undecided' if self._is_left_by_matched else ''}"
            )
        if self.arm.diverged or self.reference.diverged:
            yield (
                f"{self.arm.diverged} {self.pair.arm} and {self.reference.diverged} "
                f"{self.pair.reference} networks diverged"
            )
        if self.seeds_needed is not None:
            what = "" if self.luck is None else " searches"
            yield f"about {self.seeds_needed}{what} would settle it"
        if self.withheld is not None:
            yield f"{OUTCOME_IN_WORDS[self.withheld]} by these pairs alone"

    def unseen_failures(self) -> str:
        """How unseen failures may change the mean difference of accuracies."""
        failed = self.failures
        assert failed is not None
        arms = "; ".join(
            f"{count} of {failed.n} {arm} networks failed, and up to {most:.1%} may"
            for arm, count, most in (
                (self.pair.arm, failed.arm, failed.arm_most),
                (self.pair.reference, failed.reference, failed.reference_most),
            )
        )
        if not failed.arm and not failed.reference:
            most = f"{failed.arm_most:.1%}"
            arms = f"no network of {failed.n} pairs failed, but up to {most} of either arm may"
        said = "the claim is about networks that train" if self.of_trained else "nothing is claimed"
        return (
            f"{arms}: with unseen failures, the mean difference lies between {failed.low:+.3f} and "
            f"{failed.high:+.3f}; {said}"
        )

    def interval(self) -> str:
        """The difference and its interval, with as many decimals as the interval's width needs."""
        if self._is_constant:
            where = "on every seed" if self.luck is None else "in every search"
            return f"{self.difference:+.5f} {where}"
        return interval_in_words(self.difference, self.low, self.high)

    @property
    def _is_left_by_matched(self) -> bool:
        """Whether a gain on the reference at its own settings is not one at the arm's."""
        up = keys.higher_is_better(self.metric)
        gains = self.low > 0 if up else self.high < 0
        beside, open_ = self.matched, self.outcome == "undecided" and self.withheld is None
        return open_ and gains and beside is not None and beside.low <= 0 <= beside.high

    @property
    def _is_constant(self) -> bool:
        return self.low == self.high


def interval_in_words(value: float, low: float, high: float) -> str:
    """A value and its interval, with as many decimals as the interval's width needs; equal values
    have none."""
    if low == high:
        return f"{value:+.5f} in every pair"
    decimals = 3 if high - low > 0.01 else 5
    return "{} [{}, {}]".format(*(f"{number:+.{decimals}f}" for number in (value, low, high)))


def withheld_because(verdict: Verdict) -> str:
    """Why what the pairs alone would say is not claimed."""
    pairs, trained = verdict.pairs, verdict.trained
    assert verdict.withheld is not None
    said = f"by these pairs alone the outcome would be `{OUTCOME_IN_WORDS[verdict.withheld]}`"
    if pairs < FEWEST_PAIRS:
        return (
            f"{said}, but {pairs} pairs may all miss a part of the networks that would undo it: "
            f"{FEWEST_PAIRS} are needed"
        )
    said += ", but failures that were not seen could undo it"
    if trained is not None and trained.is_small:
        said += f", and {trained.pairs} pairs that trained are fewer than {FEWEST_PAIRS}"
    return said
