"""Networks that fail: counted, tested in pairs, and those not seen kept in mind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from dynloss_core import keys
from studies.analysis.statistics.evidence import claim_of, counted_p, evidence_of
from studies.analysis.statistics.failures import Failures, UnseenFailures, failures
from studies.analysis.statistics.judge import judge
from studies.definition.arms import Pair

PAIR = Pair("new", "old")


def found(arm: np.ndarray, reference: np.ndarray, **options: float) -> Failures:
    seen, _ = failures(pd.DataFrame({"new": arm, "old": reference}), PAIR, **options)  # type: ignore[arg-type]
    return seen


def with_deaths(n: int, arm: int, reference: int, both: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies around 0.9, and around 0.4 of those that fail."""
    draws = np.random.default_rng(n)
    new, old = 0.9 + draws.normal(0, 0.01, (2, n))
    new[:arm] -= 0.5
    old[arm : arm + reference] -= 0.5
    for each in (new, old):
        each[arm + reference : arm + reference + both] -= 0.5
    return new, old


def test_counts_and_tests_are_those_of_others() -> None:
    each = found(*with_deaths(40, 6, 1, 2), chance=1 / 3)
    assert (each.arm, each.reference, each.trained) == (8, 3, 31)
    assert each.below == pytest.approx((1 / 3 + 0.9) / 2, abs=0.01)
    assert each.p == pytest.approx(mcnemar([[2, 6], [1, 31]], exact=True).pvalue)
    assert each.arm_most == pytest.approx(proportion_confint(8, 40, alpha=0.1, method="beta")[1])
    assert each.trained_difference == pytest.approx(0.0, abs=0.01)
    assert each.low < -0.5 * 5 / 40 < each.high


def test_none_of_n_leaves_three_of_n() -> None:
    """The rule of three (Hanley and Lippman-Hand 1983, JAMA 249:1743)."""
    for n in (30, 100, 300):
        each = found(*with_deaths(n, 0, 0), chance=1 / 3)
        assert each.arm_most == pytest.approx(3 / n, rel=0.05)
        assert each.p == 1.0
        assert each.low < 0 < each.high
        assert each.low == pytest.approx(-each.high, abs=0.02)


def test_a_limit_of_the_studys_own() -> None:
    new, old = with_deaths(20, 3, 0)
    assert found(new, old, below=0.2).arm == 0
    assert found(new, old, below=0.95).trained < 3
    assert found(np.zeros(5), np.zeros(5), below=0.5).trained_difference is None


def test_an_interval_that_rare_failures_do_not_escape() -> None:
    """One network of a hundred fails, in the arm alone. A t interval errs in a quarter of cases."""
    draws = np.random.default_rng(0)
    outside = {"t": 0, "failures": 0}
    repeats, n, rate = 400, 48, 0.02
    for _ in range(repeats):
        new, old = 0.9 + draws.normal(0, 0.015, (2, n))
        dies = draws.random(n) < rate
        new = np.where(dies, new - 0.5, new + 0.5 * rate / (1 - rate))  # mean difference 0
        each, difference = found(new, old, chance=1 / 3), new - old
        half = stats.t.ppf(0.975, n - 1) * stats.sem(difference)
        outside["t"] += abs(difference.mean()) > half
        outside["failures"] += not each.low <= 0 <= each.high
    assert outside["t"] > 0.2 * repeats
    assert outside["failures"] <= 0.05 * repeats


def confirmation(new: np.ndarray, old: np.ndarray) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    keys.ARM: arm,
                    keys.SEED: range(len(values)),
                    keys.TEST_ACCURACY: values,
                    keys.DIVERGED: False,
                }
            )
            for arm, values in zip(PAIR, (new, old), strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("gain", "n", "outcome", "undone"),
    [
        (0.01, 40, "better", True),  # one more failure in ten would undo it
        (0.2, 40, "better", False),
        (0.0, 40, "equivalent", True),
        (0.0, 2000, "equivalent", False),
        (-0.01, 40, "worse", True),
        (-0.15, 40, "worse", False),
    ],
)
def test_a_claim_that_unseen_failures_could_undo_says_so(
    gain: float, n: int, outcome: str, undone: bool
) -> None:
    draws = np.random.default_rng(1)
    shared = draws.normal(0, 0.02, n)
    noise = draws.normal(0, 0.004, n)
    members = confirmation(0.8 + gain + shared + noise - noise.mean(), 0.8 + shared)
    verdict = judge(members, keys.TEST_ACCURACY, PAIR, margin=0.008, chance=1 / 3)
    assert verdict.outcome == outcome
    assert verdict.of_trained == undone
    assert verdict.withheld is None
    assert "failed" not in verdict.sentence(), "none did"


def test_failures_that_were_seen_are_said() -> None:
    members = confirmation(*with_deaths(40, 6, 1))
    verdict = judge(members, keys.TEST_ACCURACY, PAIR, chance=1 / 3)
    assert "6 new and 1 old networks failed, below 0.6" in verdict.sentence()
    assert (
        judge(
            members.assign(**{keys.TEST_LOSS: 1 - members[keys.TEST_ACCURACY]}),
            keys.TEST_LOSS,
            PAIR,
        ).failures
        is None
    )


@given(
    n=st.integers(30, 200),
    shares=st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)),
    mean=st.floats(-0.2, 0.2),
    sd=st.floats(0.001, 0.1),
    margin=st.floats(0.01, 0.5),
)
def test_p_values_and_intervals_agree(
    n: int, shares: tuple[float, float], mean: float, sd: float, margin: float
) -> None:
    alone = int(shares[0] * n), int(shares[1] * n)
    unseen = UnseenFailures(n, alone, 0.0, (0.5, 0.5), n - sum(alone), mean, sd)
    for p, holds in (
        (unseen.p_of_difference(positive=True), lambda low, high: low > 0),
        (unseen.p_of_difference(positive=False), lambda low, high: high < 0),
        (unseen.p_within(margin), lambda low, high: -margin < low and high < margin),
    ):
        if p < 1:
            assert holds(*unseen.interval(p))
        if p > 1e-11:
            assert not holds(*unseen.interval(p * 0.998))


@pytest.mark.slow
def test_of_many_comparisons_of_nothing_hardly_any_is_claimed_of_all_networks() -> None:
    """Of 20, where one network in six of one arm fails and mostly none is seen to: each alone errs
    in less than 1%."""
    draws, n, fails, families, compared = np.random.default_rng(0), 30, 0.16, 60, 20
    gap = 0.8
    gain = fails * gap / (1 - fails)
    wrong = alone = 0
    for _ in range(families):
        evidence = []
        for _ in range(compared):
            old = 0.9 + draws.normal(0, 0.01, n)
            new = np.where(draws.random(n) < fails, 0.1, 0.9 + gain) + draws.normal(0, 0.01, n)
            pairs = pd.DataFrame({"new": new, "old": old})
            evidence.append(evidence_of(pairs, PAIR, is_accuracy=True, chance=0.1))
        counted = counted_p(evidence, None, method="holm")
        said = [
            claim_of(one, higher_is_better=True, counted=p, plans=False)
            for one, p in zip(evidence, counted, strict=True)
        ]
        own = [claim_of(one, higher_is_better=True, plans=False) for one in evidence]
        wrong += any(c.decision.outcome == "better" and not c.of_trained for c in said)
        alone += any(c.decision.outcome == "better" and not c.of_trained for c in own)
    assert wrong <= alone
    assert wrong / families <= 0.05
