"""What is claimed of all networks, what of those that train, and what is withheld."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from dynloss_core import keys
from studies.analysis.statistics.equivalence import Outcome
from studies.analysis.statistics.evidence import Claim, Evidence, claim_of, counted_p, evidence_of
from studies.analysis.statistics.judge import judge
from studies.analysis.statistics.verdict import Verdict, withheld_because
from studies.definition.arms import Pair
from tests.studies.analysis.hall import p_that_decides
from tests.studies.report.made_studies import analysed

PAIR = Pair("new", "old")
CHANCE, USUAL, ENOUGH = 1 / 3, 0.8, 30
MARGIN = 0.02


def pairs_of(
    gain: float, n: int, *, new_fail: int = 0, old_fail: int = 0, seed: int = 0
) -> pd.DataFrame:
    """Accuracies around 0.8, whose trained pairs differ by `gain` on average, exactly; the first
    old networks fail, and the last new ones."""
    draws = np.random.default_rng(seed)
    old = USUAL + draws.normal(0, 0.02, n)
    noise, lives = draws.normal(0, 0.005, n), slice(old_fail, n - new_fail)
    new = old + gain + noise - noise[lives].mean()
    old[:old_fail], new[n - new_fail :] = CHANCE + 0.05, CHANCE + 0.05
    return pd.DataFrame({"new": new, "old": old})


def evidence(networks: pd.DataFrame, *, is_accuracy: bool = True) -> Evidence:
    return evidence_of(networks, PAIR, is_accuracy=is_accuracy, chance=CHANCE)


def claim(networks: pd.DataFrame, margin: float | None = MARGIN) -> Claim:
    return claim_of(evidence(networks), margin, higher_is_better=True, plans=False)


def judged(
    networks: pd.DataFrame, metric: str = keys.TEST_ACCURACY, margin: float | None = MARGIN
) -> Verdict:
    rows = networks.rename_axis(keys.SEED).reset_index()
    members = rows.melt(keys.SEED, list(PAIR), var_name=keys.ARM, value_name=metric)
    return judge(
        members.assign(**{keys.DIVERGED: False}), metric, PAIR, margin=margin, chance=CHANCE
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(30, 80), st.integers(0, 40), st.integers(0, 9))
def test_a_gain_due_to_failures_is_never_of_networks_that_train(
    n: int, fail: int, seed: int
) -> None:
    """The new networks that train are as good as the old ones."""
    said = claim(pairs_of(0.0, n, old_fail=min(fail, n // 2), seed=seed))
    outcome = said.decision.outcome
    assert outcome not in ("worse", "worse_within_margin")
    assert said.of_trained == (outcome == "equivalent")
    if said.of_trained:
        assert said.holds_for == "networks that train"


def test_failures_that_are_sure_are_a_gain_of_all_networks() -> None:
    said = claim(pairs_of(0.0, 60, old_fail=20))
    assert (said.decision.outcome, said.of_trained) == ("better", False)
    assert said.holds_for == "all networks"


@pytest.mark.parametrize(
    ("gain", "outcome"),
    [
        (0.05, "better"),
        (0.01, "better_within_margin"),
        (0.0, "equivalent"),
        (-0.01, "worse_within_margin"),
        (-0.05, "worse"),
    ],
)
def test_fewer_than_thirty_pairs_claim_nothing_that_unseen_ones_could_undo(
    gain: float, outcome: Outcome
) -> None:
    enough, few = (claim(pairs_of(gain, n)) for n in (ENOUGH, ENOUGH - 1))
    assert (enough.decision.outcome, enough.of_trained, enough.withheld) == (outcome, True, None)
    assert (few.decision.outcome, few.of_trained, few.withheld) == ("undecided", False, outcome)
    assert few.decision.seeds_needed == ENOUGH


def test_failures_leave_fewer_pairs_to_claim_anything_of() -> None:
    """The pairs count in which both networks trained."""
    for fail, withheld in ((0, None), (1, "better")):
        said = claim(pairs_of(0.05, ENOUGH, new_fail=fail))
        assert said.of_trained == (fail == 0)
        assert said.withheld == withheld


@pytest.mark.parametrize(("gain", "outcome"), [(-0.3, "better"), (0.0, "equivalent")])
def test_a_loss_has_no_bounds(gain: float, outcome: Outcome) -> None:
    """An accuracy that much lower would be claimed of all networks, of any number of pairs."""
    for n in (ENOUGH, ENOUGH - 1):
        found = evidence(pairs_of(gain, n), is_accuracy=False)
        assert (found.trained, found.failures) == (None, None)
        said = claim_of(found, MARGIN, higher_is_better=False)
        assert not said.of_trained
        assert said.decision.outcome == (outcome if n == ENOUGH else "undecided")
        assert said.withheld == (None if n == ENOUGH else outcome)
    assert claim(pairs_of(-0.3, 20)).decision.outcome == "worse"


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 400), st.floats(-0.4, 0.4), st.floats(0.01, 0.3), st.integers(0, 9))
def test_what_is_claimed_of_all_survives_failures_up_to_their_bound(
    n: int, gain: float, margin: float, seed: int
) -> None:
    networks = pairs_of(gain, n, seed=seed)
    failed = evidence(networks).failures
    assert failed is not None
    assume(not failed.arm and not failed.reference)  # a large loss ends near the limit of failing
    said = claim(networks, margin)
    outcome = said.decision.outcome
    if said.of_trained or outcome == "undecided":
        return
    bound = 1 - (0.05 / 6) ** (1 / n)  # none of n was seen: Clopper and Pearson, a sixth of 5%
    for fails, sign in (("new", -1), ("old", 1)):
        other = networks["old" if fails == "new" else "new"].mean()
        for share in np.linspace(0, bound, 5):
            mean = (1 - share) * gain + sign * share * (other - CHANCE)
            if outcome != "equivalent":
                assert (mean > 0) == outcome.startswith("better")
            if outcome == "equivalent" or outcome.endswith("within_margin"):
                assert abs(mean) < margin


@pytest.mark.parametrize(
    ("margin", "outcome"), [(0.25, "better"), (0.4, "better_within_margin"), (None, "better")]
)
def test_that_a_gain_is_small_must_survive_failures_of_the_other_arm(
    margin: float | None, outcome: Outcome
) -> None:
    """A gain of 0.2 holds for all; up to 15% of old networks may fail and make it larger."""
    networks = pairs_of(0.2, ENOUGH)
    assert evidence(networks).failures.high == pytest.approx(0.27, abs=0.02)  # type: ignore[union-attr]
    for sign, turned in (
        (1, networks),
        (-1, networks.rename(columns={"new": "old", "old": "new"})),
    ):
        said = claim(turned, margin)
        expected = outcome if sign > 0 else outcome.replace("better", "worse")
        assert (said.decision.outcome, said.of_trained) == (expected, False)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(4, 60),
    st.floats(-0.2, 0.2),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 9),
)
def test_arms_that_change_places_change_signs_alone(
    n: int, gain: float, new_fail: int, old_fail: int, seed: int
) -> None:
    new_fail, old_fail = min(new_fail, n // 4), min(old_fail, n // 4)
    networks = pairs_of(gain, n, new_fail=new_fail, old_fail=old_fail, seed=seed)
    found = claim(networks)
    turned = claim(networks.rename(columns={"new": "old", "old": "new"}))
    mirror = {"better": "worse", "worse": "better"}

    def mirrored(outcome: Outcome | None) -> str | None:
        first, *rest = (outcome or "").split("_", 1)
        return None if outcome is None else "_".join((mirror.get(first, first), *rest))

    assert turned.decision.outcome == mirrored(found.decision.outcome)
    assert turned.withheld == mirrored(found.withheld)
    assert turned.of_trained == found.of_trained


def test_of_several_searches_the_means_over_networks_that_train_are_compared() -> None:
    searches, seeds = 6, 8
    networks = pairs_of(0.05, searches * seeds)
    number = np.repeat(np.arange(searches), seeds)
    lost = [0, 1, 2, 9, 40]
    networks.loc[lost, "new"] = CHANCE
    difference = networks["new"] - networks["old"]
    found = evidence_of(
        networks,
        PAIR,
        is_accuracy=True,
        compared=difference.groupby(number).mean().to_numpy(),
        searches=list(number),
        chance=CHANCE,
    )
    kept = difference.drop(index=lost)
    means = kept.groupby(number[kept.index]).mean()
    trained = found.trained
    assert trained is not None
    assert (trained.n, trained.pairs, found.everyone.pairs) == (searches, len(kept), 48)
    assert trained.mean == pytest.approx(means.mean())
    test = stats.ttest_1samp(means, 0)
    assert trained.p_t == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert (trained.low, trained.high) == pytest.approx((interval.low, interval.high))
    assert trained.p >= trained.p_t
    said = claim_of(found, MARGIN, higher_is_better=True)
    assert (said.decision.outcome, said.of_trained) == ("better", True), "43 pairs are enough"


def test_p_values_of_networks_that_train_are_counted_by_themselves() -> None:
    tables = [pairs_of(gain, 40, new_fail=2, seed=k) for k, gain in enumerate((0.003, 0.002, 0.0))]
    found = [evidence(table) for table in tables]
    counted = counted_p(found, None, method="holm")
    whole, trained = [], []
    for table in tables:
        difference = (table["new"] - table["old"]).to_numpy()
        whole.append(p_that_decides(difference))
        trained.append(p_that_decides(difference[:-2]))
    for own, name in ((whole, "differ"), (trained, "trained_differ")):
        first, second, third = sorted(own)
        expected = np.maximum.accumulate([3 * first, 2 * second, third]).clip(max=1)
        assert sorted(getattr(p, name) for p in counted) == pytest.approx(list(expected))
    assert all(p.same is None and p.trained_same is None for p in counted)


@pytest.mark.parametrize(
    ("n", "both_fail", "because"),
    [(29, 0, "but 29 pairs may all miss a part"), (40, 12, "but failures that were not seen")],
)
def test_what_is_withheld_is_said(n: int, both_fail: int, because: str) -> None:
    networks = pairs_of(0.01, n)
    networks.iloc[:both_fail] -= 0.4
    verdict = judged(networks, margin=None)
    assert (verdict.outcome, verdict.withheld) == ("undecided", "better")
    assert verdict.outcome_in_words == "undecided"
    assert verdict.sentence().startswith("Undecided between ")
    assert f"; {verdict.withheld} by these pairs alone)" in verdict.sentence()
    assert f"would be `{verdict.withheld}`, {because}" in withheld_because(verdict)
    assert verdict.unseen_failures().endswith("; nothing is claimed")


def test_what_is_claimed_of_networks_that_train_is_said() -> None:
    verdict = judged(pairs_of(0.05, 40, new_fail=2))
    difference = pairs_of(0.05, 40, new_fail=2).eval("new - old")[:-2]
    assert (verdict.outcome, verdict.of_trained, verdict.withheld) == ("better", True, None)
    assert verdict.trained is not None
    assert verdict.trained.mean == pytest.approx(difference.mean())
    assert verdict.difference < verdict.trained.mean, "this is of all pairs"
    sentence = verdict.sentence()
    assert sentence.startswith("Of networks that train, ")
    assert "; of networks that train +0.05" in sentence
    assert "over 38 pairs" in sentence
    assert verdict.unseen_failures().endswith("; the claim is about networks that train")


def test_a_study_warns_of_what_it_withholds() -> None:
    (verdict,) = analysed(adaptive=False).verdicts
    test = verdict.test
    assert (test.n, test.outcome, test.withheld) == (8, "undecided", "better")
    assert withheld_because(test) in verdict.warnings
    assert test.unseen_failures() in verdict.warnings
    assert "better by these pairs alone" in verdict.sentence()
    assert verdict.headline() == "Undecided on fresh seeds"


def test_a_loss_that_is_withheld_warns_without_failures() -> None:
    (verdict,) = analysed(adaptive=False, objective=keys.VALIDATION_LOSS).verdicts
    assert (verdict.test.outcome, verdict.test.withheld) == ("undecided", "better")
    assert withheld_because(verdict.test) in verdict.warnings
    assert not any("failed" in warning for warning in verdict.warnings)
