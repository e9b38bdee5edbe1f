"""Both arms at one size of the network, in training accuracy and in the metric of generalisation
(see `regimes`)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dynloss_core import keys
from studies.analysis.gains.interpolation import Interpolation
from studies.analysis.statistics.comparison import Comparison, compare
from studies.analysis.statistics.equivalence import Decision
from studies.analysis.statistics.evidence import Claim, CountedP, Evidence, claim_of
from studies.definition.arms import Pair

__all__ = ["ERROR", "MetricGain", "Size", "metric_gain"]

ERROR = 0.05


@dataclass(frozen=True)
class MetricGain:
    """Both arms at one size, in one metric.

    Args:
        metric: the metric.
        reference_mean: the mean of the reference arm.
        reference_low: lower end of the 95% t interval of its mean.
        reference_high: upper end.
        arm_mean: the mean of the arm that is compared with it.
        arm_low: lower end of the interval of its mean.
        arm_high: upper end.
        comparison: the paired comparison, arm minus reference.
        claim: what is claimed, which counts all sizes, and all pairs of arms if there are several.
        p_adjusted: p value of the difference, adjusted over them (see `swept_sizes.judged_sizes`).
    """

    metric: str
    reference_mean: float
    reference_low: float
    reference_high: float
    arm_mean: float
    arm_low: float
    arm_high: float
    comparison: Comparison
    claim: Claim
    p_adjusted: float

    @property
    def decision(self) -> Decision:
        """What is decided."""
        return self.claim.decision

    @property
    def wins(self) -> bool:
        """Whether the arm is better, corrected for the number of comparisons."""
        return self.decision.outcome in ("better", "better_within_margin")

    @property
    def loses(self) -> bool:
        """Whether it is worse."""
        return self.decision.outcome in ("worse", "worse_within_margin")

    @property
    def gain(self) -> tuple[float, float, float]:
        """Mean, lower and upper end of the paired difference, oriented so that positive is a gain
        of the arm."""
        comparison = self.comparison
        if keys.higher_is_better(self.metric):
            return comparison.mean, comparison.low, comparison.high
        return -comparison.mean, -comparison.high, -comparison.low


@dataclass(frozen=True)
class Size:
    """One size of the network.

    Args:
        value: the value of the parameter that sets it.
        parameters: number of trainable parameters; None if the table does not say.
        samples: number of training samples; None likewise.
        interpolation: the interpolation of each arm, at the setting compared.
        static_train_best: the best mean training accuracy of a setting of the reference.
        gains: the gain in training accuracy, then in the metric of generalisation.
    """

    value: float
    parameters: int | None
    samples: int | None
    interpolation: dict[str, Interpolation]
    static_train_best: float
    gains: tuple[MetricGain, MetricGain]

    @property
    def ratio(self) -> float | None:
        """Parameters per training sample."""
        if self.parameters is None or self.samples is None:
            return None
        return self.parameters / self.samples


def metric_gain(
    metric: str,
    pair: Pair,
    pairs: pd.DataFrame,
    evidence: Evidence,
    counted: CountedP,
    margin: float | None,
    *,
    diverged: bool,
) -> MetricGain:
    """Both arms at one size, in one metric.

    Args:
        metric: the metric.
        pair: the arms.
        pairs: one row per seed or search, one column per arm.
        evidence: the arm against the reference.
        counted: its p values, adjusted over all sizes and pairs of arms.
        margin: the margin of equivalence in this metric.
        diverged: whether a network diverged: then a loss decides nothing (see `decide`).
    """
    up = keys.higher_is_better(metric)
    survivors_only = diverged and not up
    claim = claim_of(
        evidence, margin, higher_is_better=up, counted=counted, survivors_only=survivors_only
    )
    means = [_mean_interval(pairs[arm]) for arm in (pair.reference, pair.arm)]
    p = 1.0 if survivors_only else counted.of(claim)
    return MetricGain(metric, *means[0], *means[1], evidence.everyone, claim, p)


def _mean_interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean of n >= 2 values and its 95% t interval."""
    comparison = compare(values.to_numpy(dtype=float))
    return comparison.mean, comparison.low, comparison.high
