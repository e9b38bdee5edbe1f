"""The analysis on tables whose answer is known."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dynloss_core import keys
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.figures.style import arm_styles, arms_of_study
from studies.analysis.figures.verdict import draw_verdict
from studies.analysis.gains.learning_curves import curves_caption, learning_curves
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.statistics.judge import judge
from studies.analysis.statistics.pairing import paired_by_seed
from studies.definition.phases import Phase
from tests.studies.analysis.figures import texts
from tests.studies.analysis.hall import (
    p_that_decides,
    p_that_they_are_the_same,
    wider_interval,
)

ACCURACY = keys.TEST_ACCURACY


def confirmation(dynamical: np.ndarray, static: np.ndarray, metric: str = ACCURACY) -> pd.DataFrame:
    frames = [
        pd.DataFrame({keys.ARM: arm, keys.SEED: np.arange(len(values)), metric: values})
        for arm, values in ((keys.DYNAMICAL, dynamical), (keys.STATIC, static))
    ]
    table = pd.concat(frames, ignore_index=True).sample(frac=1, random_state=0)
    table[keys.DIVERGED] = table[metric].isna()
    return table


def test_the_interval_is_that_of_the_paired_t_test_or_wider() -> None:
    draws = np.random.default_rng(0)
    static = draws.normal(0.7, 0.1, 36)
    dynamical = static + draws.normal(0.05, 0.02, 36)
    verdict = judge(confirmation(dynamical, static), ACCURACY)
    assert (verdict.low, verdict.high) == pytest.approx(wider_interval(dynamical - static))
    student = stats.ttest_rel(dynamical, static).confidence_interval(0.95)
    assert verdict.low <= student.low
    assert verdict.high >= student.high
    assert verdict.p_wilcoxon == pytest.approx(stats.wilcoxon(dynamical - static).pvalue)
    assert verdict.difference == pytest.approx((dynamical - static).mean())
    assert verdict.reference.sd == pytest.approx(static.std(ddof=1))
    assert verdict.n == verdict.pairs == 36
    assert verdict.outcome == "better"
    assert verdict.p_t == pytest.approx(stats.ttest_rel(dynamical, static).pvalue)
    assert verdict.p == pytest.approx(p_that_decides(dynamical - static))
    assert verdict.median == pytest.approx(np.median(dynamical - static))
    gain = dynamical - static
    assert verdict.effect_size == pytest.approx(gain.mean() / gain.std(ddof=1))
    assert (verdict.margin, verdict.p_equivalence, verdict.seeds_needed) == (None, None, None)


NOISE = np.tile([0.01, -0.01, 0.02, -0.02, 0.0, 0.0], 5)
N = len(NOISE)


@pytest.mark.parametrize(("shift", "outcome"), [(0.1, "worse"), (-0.1, "better")])
def test_a_loss_is_better_where_it_is_smaller(shift: float, outcome: str) -> None:
    table = confirmation(0.5 + shift + NOISE, np.full(N, 0.5), keys.TEST_LOSS)
    verdict = judge(table, keys.TEST_LOSS)
    assert (verdict.outcome, verdict.withheld) == (outcome, None)
    few = judge(table[table[keys.SEED] < N - 1], keys.TEST_LOSS)
    assert (few.outcome, few.withheld) == ("undecided", outcome)
    assert f"{outcome} by these pairs alone" in few.sentence()


SAME = p_that_they_are_the_same(NOISE, 0.02)


@pytest.mark.parametrize(
    ("shift", "margin", "outcome", "words"),
    [
        (0.2, None, "better", ["The dynamical loss beats the static one: test accuracy 0.700"]),
        (
            0.05,
            None,
            "better",
            [
                "Of networks that train, the dynamical loss beats the static one: test accuracy 0.550",
                "difference +0.050 [+0.045, +0.055] (95% interval",
            ],
        ),
        (-0.2, 0.02, "worse", ["The dynamical loss loses to the static one", "against 0.500"]),
        (
            0.0,
            0.02,
            "equivalent",
            ["equivalent within ±0.02", f"two one-sided tests p = {SAME:.2g}"],
        ),
        (
            0.05,
            0.07,
            "better_within_margin",
            [
                "beats the static one, but by less than the margin of 0.07: test",
                f"two one-sided tests p = {SAME:.2g}",
            ],
        ),
        (0.004, None, "undecided", ["Undecided: ", "paired; about 116 would settle it)"]),
        (0.004, 0.008, "undecided", ["Undecided: ", "about 94 would settle it)"]),
    ],
)
def test_a_verdict_in_words(
    shift: float, margin: float | None, outcome: str, words: list[str]
) -> None:
    table = confirmation(0.5 + shift + NOISE, np.full(N, 0.5))
    verdict = judge(table, ACCURACY, margin=margin)
    assert verdict.outcome == outcome
    assert verdict.margin == margin
    for expected in [*words, "(95% interval, n = 30 fresh seeds of these two winners, paired"]:
        assert expected in verdict.sentence()
    json.dumps(asdict(verdict), allow_nan=False)


def test_survivors_are_not_equivalent_either() -> None:
    dynamical, static = np.full(12, 0.5), np.full(12, 0.5)
    dynamical[0] = np.nan
    verdict = judge(confirmation(dynamical, static, keys.TEST_LOSS), keys.TEST_LOSS, margin=0.1)
    assert (verdict.outcome, verdict.seeds_needed) == ("undecided", None)


def test_pairing_is_by_seed_not_by_row() -> None:
    """Arms that vary together by seed: only the pairing sees the small gain."""
    static = np.linspace(0.4, 0.9, 30)
    verdict = judge(confirmation(static + 0.01, static), ACCURACY)
    assert verdict.outcome == "better"
    assert verdict.low == pytest.approx(0.01)


def test_a_diverged_network_counts_as_accuracy_zero_and_leaves_a_loss() -> None:
    dynamical, static = np.array([0.9, np.nan, 0.9]), np.array([0.5, 0.5, 0.5])
    verdict = judge(confirmation(dynamical, static), ACCURACY)
    assert verdict.n == 3
    assert verdict.arm.mean == pytest.approx(0.6)
    assert verdict.arm.diverged == 1
    verdict = judge(confirmation(dynamical, static, keys.TEST_LOSS), keys.TEST_LOSS)
    assert verdict.n == 2
    assert verdict.outcome == "undecided", "survivors alone give no direction"
    assert "1 dynamical and 0 static networks diverged" in verdict.sentence()


def test_a_verdict_needs_two_arms_and_two_pairs() -> None:
    table = confirmation(np.array([0.9, 0.8]), np.array([0.5, 0.6]))
    with pytest.raises(ValueError, match="no static"):
        judge(table[table[keys.ARM] == keys.DYNAMICAL], ACCURACY)
    with pytest.raises(ValueError, match="at least two"):
        judge(table[table[keys.SEED] == 0], ACCURACY)


def curves(metric: str) -> pd.DataFrame:
    rows = [
        {keys.ARM: arm, keys.SEED: seed, keys.STEP: step, metric: 0.1 * (seed + 1) + step / 100}
        for arm in (keys.DYNAMICAL, keys.STATIC)
        for seed in range(4)
        for step in (0, 10, 20)
    ]
    return pd.DataFrame(rows)


def test_learning_curves_are_means_over_seeds_with_their_interval() -> None:
    dynamical, static = learning_curves(curves(keys.TRAIN_ACCURACY), keys.TRAIN_ACCURACY)
    assert (dynamical.arm, static.arm, static.n) == (keys.DYNAMICAL, keys.STATIC, 4)
    np.testing.assert_allclose(static.mean, [0.25, 0.35, 0.45])
    half = stats.t.ppf(0.975, 3) * stats.sem([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(static.high - static.mean, half)
    geometric, _ = learning_curves(curves(keys.TRAIN_LOSS), keys.TRAIN_LOSS)
    assert geometric.mean[0] == pytest.approx((0.1 * 0.2 * 0.3 * 0.4) ** 0.25)
    assert (geometric.low > 0).all()


def test_the_curves_of_several_searches_are_a_sample_of_searches() -> None:
    """Seeds within a search are no sample of searches: theirs are averaged first."""
    found = []
    for search, (shift, seeds) in enumerate([(0.0, (0, 1)), (0.4, (7, 8)), (0.2, (3, 4, 5))], 1):
        rows = curves(keys.TRAIN_ACCURACY)
        rows = rows[rows[keys.SEED] < len(seeds)]
        rows = rows.assign(**{keys.SEED: rows[keys.SEED].map(dict(enumerate(seeds)))})
        rows[keys.TRAIN_ACCURACY] = shift + rows[keys.STEP] / 100
        rows[keys.PHASE] = str(Phase(keys.CONFIRM, 1, search))
        found.append(rows)
    _, static = learning_curves(pd.concat(found), keys.TRAIN_ACCURACY, searches=True)
    assert static.label == "static (n = 3 searches)"
    np.testing.assert_allclose(static.mean, [0.2, 0.3, 0.4])
    half = stats.t.ppf(0.975, 2) * stats.sem([0.0, 0.4, 0.2])
    np.testing.assert_allclose(static.high - static.mean, half)
    assert "interval is over searches" in curves_caption([static], None)


def test_an_arm_looks_the_same_in_every_figure_of_its_study() -> None:
    study = ["static", *(f"arm{k}" for k in range(9))]
    together = arms_of_study(study, lambda: arm_styles(study))()
    assert len(set(together.values())) == 10, "ten arms can be told apart"
    alone = arms_of_study(study, lambda: arm_styles(["arm7", "static"]))()
    assert alone == {arm: together[arm] for arm in ("arm7", "static")}
    assert arm_styles(["arm7"]) == {"arm7": together["arm0"]}, "elsewhere it is the first"


def test_figures_say_what_they_show(tmp_path: object) -> None:
    table = confirmation(np.linspace(0.8, 0.9, 30), np.linspace(0.5, 0.7, 30))
    verdict = judge(table, ACCURACY)
    figure = draw_verdict(
        paired_by_seed(table, ACCURACY), SettingVerdict({}, verdict, verdict, {}, verdict.p_t)
    )
    words = texts(figure)
    for expected in ("dynamical loss is better", "test accuracy", "n = 30", "static", "95%"):
        assert expected in words
    panels = [learning_curves(curves(m), m) for m in (keys.TRAIN_ACCURACY, keys.TRAIN_LOSS)]
    figure = draw_learning_curves(panels, tail_start=15)
    words = texts(figure)
    for expected in ("step", "train accuracy", "Train loss", "dynamical (n = 4)", "static tail"):
        assert expected in words
    assert figure.axes[1].get_yscale() == "log"


@pytest.mark.parametrize(
    ("n", "difference", "margin", "words"),
    [
        (3, 0.0, None, ["Undecided: ", "difference +0.00000 on every seed", "sign test p = 1)"]),
        (3, 0.01, None, ["Undecided: ", "p = 0.25; about 30 would settle it)"]),
        (6, -0.01, None, ["Undecided: ", "p = 0.031; about 30 would settle it; worse by these"]),
        (5, 0.01, 0.02, ["Undecided: ", "about 30 would settle it; equivalent by these pairs"]),
        (30, -0.01, None, ["loses to", "-0.01000 on every seed", f"sign test p = {2**-29:.2g}"]),
        (
            30,
            0.01,
            0.02,
            ["beats the static one, but by less", f"one-sided sign tests p = {2**-30:.2g}"],
        ),
        (30, 0.0, 0.02, ["equivalent within ±0.02", f"one-sided sign tests p = {2**-30:.2g}"]),
    ],
)
def test_equal_differences_have_no_interval(
    n: int, difference: float, margin: float | None, words: list[str]
) -> None:
    static = np.linspace(0.5, 0.75, n)
    table = confirmation(static + difference, static)
    sentence = judge(table, ACCURACY, margin=margin).sentence()
    for expected in [*words, f"(n = {n} fresh seeds of these two winners, paired; sign test p = "]:
        assert expected in sentence
    assert "interval" not in sentence
