"""Search health on tables whose answer is known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import optuna
import pytest
from scipy import stats

from dynloss_core import keys
from search_spaces import ChoiceParameter, ConstParameter, FloatParameter, Space
from studies.analysis.figures.search_health import draw_convergence, draw_isolation
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.combined_health import convergence_headline, trials_together
from studies.analysis.search_health.importances import importances
from studies.analysis.search_health.search_health import search_health
from tests.studies.analysis.figures import texts
from tests.studies.analysis.search_tables import (
    ACCURACY,
    LOSS,
    RATE,
    both_arms,
    health,
    rates,
    sobol,
    space,
    table,
)


def test_the_fraction_infeasible_has_a_wilson_interval() -> None:
    found = health([0.5] * 40, diverged=range(10)).infeasible[keys.STATIC]
    assert (found.count, found.trials, found.fraction) == (10, 40, 0.25)
    z, p, n = stats.norm.ppf(0.975), 0.25, 40
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(
    ("values", "last", "converged"),
    [
        ([0.1, 0.5] + [0.4] * 28, 2, True),
        ([0.1] * 20 + [0.5] + [0.4] * 9, 21, False),
        ([0.1] * 19 + [0.5] + [0.4] * 10, 20, True),  # the last third is trials 21 to 30
        ([0.5] * 15 + list(0.5 + 0.0011 * np.arange(1, 16)), 26, False),  # small gains add up
        ([0.5] * 27 + [0.504] * 3, 1, True),  # within the tolerance
        ([0.5] + [0.4] * 13, 1, False),  # 14 trials
        ([0.5] + [0.4] * 14, 1, True),
    ],
)
def test_a_search_converged_if_its_last_third_gained_nothing(
    values: list[float], last: int, converged: bool
) -> None:
    curve = health(values).convergence[keys.STATIC]
    assert curve.tolerance == pytest.approx(0.005), "the seeds differ alike: there is no noise"
    assert (curve.last_improvement, curve.converged) == (last, converged)
    best = np.maximum.accumulate(values)
    np.testing.assert_allclose(curve.best, best[curve.budget - 1])
    assert curve.budget[-1] == curve.trials == len(values)


def test_infeasible_trials_spend_budget_but_win_nothing() -> None:
    curve = health([0.9, 0.5, *[0.4] * 18], diverged=[0]).convergence[keys.STATIC]
    assert (curve.trials, curve.last_improvement) == (20, 2)
    assert curve.budget.tolist() == [2, 20]
    np.testing.assert_allclose(curve.best, [0.5, 0.5])


def test_a_loss_converges_downwards_to_one_per_cent() -> None:
    curve = health([2.0, 1.02, *[1.005] * 10, *[1.0] * 8], metric=LOSS).convergence[keys.STATIC]
    assert curve.tolerance == pytest.approx(0.01)
    assert curve.last_improvement == 3
    np.testing.assert_allclose(curve.best, [2.0, 1.02, 1.005, 1.0, 1.0])


def test_the_creep_of_the_best_of_noise_is_no_gain() -> None:
    """The noise is the residual of trial + seed; the seeds' own differences are none of it."""
    draws = np.random.default_rng(0)
    converged, tolerances = 0, []
    for _ in range(20):
        trials = np.array([0.5, 0.6, 0.7, 0.8]) + draws.normal(0, 0.04, (60, 4))
        search = table(rates(*[1.0] * 60), trials[:, 0], keys.STATIC, offsets=np.zeros(4))
        search[ACCURACY] = trials[search[keys.TRIAL], search[keys.SEED]]
        found = search_health(
            search, {keys.STATIC: space(learning_rate=RATE)}, ACCURACY, adaptive=True
        )
        assert found is not None
        converged += found.convergence[keys.STATIC].converged is True
        tolerances.append(found.convergence[keys.STATIC].tolerance)
    assert np.mean(tolerances) == pytest.approx(0.04 / 2, rel=0.1)
    assert converged >= 15


@pytest.mark.parametrize("diverged", [[], [1, 4, 5]])
def test_the_expected_best_of_a_design_by_counting(diverged: list[int]) -> None:
    values = np.array([0.3, 0.9, 0.5, 0.2, 0.8, 0.6, 0.4])
    curve = health(values, adaptive=False, diverged=diverged).convergence[keys.STATIC]
    assert (curve.last_improvement, curve.converged) == (None, None)
    assert curve.budget.tolist() == [1, 2, 3, 4, 5, 6, 7]
    values[diverged] = -np.inf
    for m, best in zip(curve.budget, curve.best, strict=True):
        bests = [max(draw) for draw in combinations(values, m)]
        assert best == pytest.approx(np.mean([each for each in bests if np.isfinite(each)]))


def test_importances_are_fractions_of_the_variance_on_the_scale() -> None:
    """y = 2 u + v, additive: variances 4 to 1. On the raw values, most of u's lie below 0.01."""
    mine = space(
        learning_rate=FloatParameter(low=1e-4, high=1.0, scale="log"),
        momentum=FloatParameter(low=0.0, high=0.9),
        weight_decay=ConstParameter(value=0.0),
    )
    points = sobol(128, mine)
    values = [
        2 * (4 + np.log10(p["learning_rate"])) / 4 + p["momentum"] / 0.9  # type: ignore[operator,call-overload]
        for p in points
    ]
    trials = arm_trials(table(points, values), keys.DYNAMICAL, mine, ACCURACY)
    found = importances(trials, mine, adaptive=False)
    assert found is not None
    assert list(found.fractions) == ["learning_rate", "momentum"]
    assert found.fractions["learning_rate"] == pytest.approx(0.8, abs=0.05)
    assert found.fractions["momentum"] == pytest.approx(0.2, abs=0.05)
    assert all(0 < sem < 0.05 for sem in found.sem.values())
    assert found.trials == 128
    assert found.warning is None
    again = importances(trials, mine, adaptive=True)
    assert again is not None
    assert again.fractions == found.fractions
    assert again.warning is not None
    assert "adaptive sampling biases importances" in again.warning


def test_importances_of_a_choice_and_of_a_large_study() -> None:
    mine = Space(
        name="s",
        parameters={
            "model.initialisation": ChoiceParameter(values=("a", "b", "c")),
            "learning_rate": RATE,
        },
    )
    points = sobol(1024, mine)
    values = [{"a": 0.1, "b": 0.5, "c": 0.2}[p["model.initialisation"]] for p in points]  # type: ignore[index]
    trials = arm_trials(table(points, values, diverged=[0]), keys.DYNAMICAL, mine, ACCURACY)
    level = optuna.logging.get_verbosity()
    found = importances(trials, mine, adaptive=False)
    assert optuna.logging.get_verbosity() == level
    assert found is not None
    assert found.trials == 200
    assert found.fractions["model.initialisation"] > 0.98
    assert found.fractions["learning_rate"] < 0.02


def test_no_importances_of_too_little() -> None:
    mine = space(learning_rate=RATE, momentum=FloatParameter(low=0.0, high=0.9))
    points, values = sobol(20, mine), np.linspace(0.4, 0.6, 20)
    few = arm_trials(table(points, values, diverged=[0]), keys.DYNAMICAL, mine, ACCURACY)
    assert importances(few, mine, adaptive=False) is None, "19 feasible trials"
    flat = arm_trials(table(points, np.full(20, 0.5)), keys.DYNAMICAL, mine, ACCURACY)
    assert importances(flat, mine, adaptive=False) is None
    one = arm_trials(table(points, [0.6, *[0.5] * 19]), keys.DYNAMICAL, mine, ACCURACY)
    assert importances(one, mine, adaptive=False) is None, "flat once that trial is left out"
    assert health(np.linspace(0.4, 0.6, 30)).importances == {keys.STATIC: None}, "one parameter"


def test_an_arm_that_is_missing_makes_budgets_unequal() -> None:
    search, spaces = both_arms()
    alone = search[search[keys.ARM] == keys.STATIC]
    found = search_health(alone, spaces, ACCURACY, adaptive=True)
    assert found is not None
    assert list(found.infeasible) == list(found.convergence) == [keys.STATIC]
    assert found.equal_budgets is False
    assert any("0 dynamical and 40 static trials" in each for each in found.warnings())
    only = search_health(alone, {keys.STATIC: spaces[keys.STATIC]}, ACCURACY, adaptive=True)
    assert only is not None
    assert only.equal_budgets is None
    assert search_health(search[:0], spaces, ACCURACY, adaptive=True) is None


def test_one_trial_of_one_seed() -> None:
    found = health([0.5], offsets=np.zeros(1))
    (one,) = found.isolations
    assert one.trials.sum() == 1
    assert np.nanmax(one.mean) == 0.5
    assert np.isnan(one.low).all()
    assert found.near_bounds == ()
    assert found.convergence[keys.STATIC].tolerance == 0.005
    assert found.warnings() == [
        "static: too few trials (1) to say whether the search converged: give it 15 or more"
    ]
    draw_isolation(found)
    draw_convergence(found)


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
@pytest.mark.parametrize("adaptive", [True, False])
def test_an_arm_whose_trials_are_all_infeasible(adaptive: bool, metric: str) -> None:
    found = health([0.5] * 20, adaptive, diverged=range(20), metric=metric)
    assert found.infeasible[keys.STATIC].fraction == 1
    assert (found.isolations[0].best == -1).all()
    curve = found.convergence[keys.STATIC]
    assert curve.best.size == 0
    assert curve.converged is (False if adaptive else None)
    assert found.warnings() == ["static: 20 of 20 trials were infeasible: no setting can be chosen"]
    assert "No feasible trial: static" in texts(draw_isolation(found))
    assert "static: all 20 infeasible" in texts(draw_convergence(found))


def test_bounds_infeasible_trials_late_gains_and_unequal_budgets_warn() -> None:
    search, spaces = both_arms(40, 20, diverged=range(0, 20, 2))
    late = (search[keys.ARM] == keys.DYNAMICAL) & (search[keys.TRIAL] == 35)
    search.loc[late, ACCURACY] = 1.0
    search.loc[late, keys.AMPLITUDE] = 149.0
    search.loc[late, keys.PERIOD] = 1000
    search.loc[late, keys.LEARNING_RATE] = 1.0
    found = search_health(search, spaces, ACCURACY, adaptive=True)
    assert found is not None
    expected = [
        "dynamical: the best amplitude, 149, is within 5% of the range from its upper bound, 150: "
        "widen the range (raise that bound) and search again",
        "static: 10 of 20 trials (50%, 95% interval 30% to 70%) were infeasible: narrow the space "
        "where the isolation figure shows them",
        "dynamical: not converged: in the last third of its 40 trials the best still improved by "
        "more than 0.005: extend the search",
        "unequal budgets: 40 dynamical and 20 static trials: the arm with more has the better "
        "chance of a good one; give both the same number",
    ]
    assert [
        each for each in found.warnings() if each.startswith("static: not") is False
    ] == expected
    design = search_health(search, spaces, ACCURACY, adaptive=False)
    assert design is not None
    assert design.equal_budgets is None
    assert design.warnings() == expected[:2], "a design neither converges nor needs equal budgets"


def test_half_the_margin_is_what_a_search_may_still_gain() -> None:
    search, spaces = both_arms(40, 40)
    tolerances = []
    for margin in (1e-9, None, 0.2):
        found = search_health(search, spaces, ACCURACY, adaptive=True, margin=margin)
        assert found is not None
        tolerances.append(found.convergence[keys.STATIC].tolerance)
    noise = tolerances[0]
    assert tolerances[1:] == pytest.approx([max(0.005, noise), 0.1])


def test_a_healthy_search_has_no_warnings() -> None:
    search, spaces = both_arms()
    found = search_health(search, spaces, ACCURACY, adaptive=False)
    assert found is not None
    assert found.warnings() == []
    assert [(each.arm, each.parameter) for each in found.isolations] == [
        (keys.DYNAMICAL, keys.PERIOD),
        (keys.DYNAMICAL, keys.AMPLITUDE),
        (keys.DYNAMICAL, keys.LEARNING_RATE),
        (keys.STATIC, keys.LEARNING_RATE),
    ]


def test_the_isolation_figure() -> None:
    search, spaces = both_arms(diverged=[3])
    largest = search[keys.AMPLITUDE] == search[keys.AMPLITUDE].max()
    search.loc[largest, ACCURACY] = 0.95
    found = search_health(search, spaces, ACCURACY, adaptive=True)
    assert found is not None
    assert len(found.near_bounds) == 1
    figure = draw_isolation(found)
    words = texts(figure)
    for expected in (
        "period T (steps)",
        "amplitude A",
        "learning rate",
        "validation accuracy",
        "trials",
        "dynamical (40 trials)",
        "static (40 trials, 2% infeasible)",
        "best of the arm",
        "near a bound",
        "infeasible trials",
        "n = 4",
        "95% interval",
        "Best setting near a bound: dynamical amplitude",
    ):
        assert expected in words
    assert len(figure.axes) == 6
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    period, amplitude, rate = figure.axes[:3]
    assert [len(axes.containers) for axes in (period, amplitude, rate)] == [1, 1, 2], "arms"
    dashed = [[line for line in axes.lines if line.get_linestyle() == "--"] for axes in figure.axes]
    assert [len(lines) for lines in dashed[:3]] == [0, 1, 0]
    assert dashed[1][0].get_xdata()[0] == 150  # type: ignore[index]
    assert period.get_ylim()[0] >= 0, "an interval beyond an accuracy is cut off"
    assert figure.axes[5].get_ylim()[0] < 0, "the static arm's trials are counted downwards"


def test_a_loss_and_choices_in_the_isolation_figure() -> None:
    name = "model.initialisation"
    mine = Space(
        name="s",
        parameters={
            name: ChoiceParameter(values=("lecun_normal", "glorot_normal")),
            "momentum": FloatParameter(low=0.0, high=0.9),
        },
    )
    points = sobol(16, mine)
    search = table(points, np.linspace(0.1, 5, 16), metric=LOSS)
    found = search_health(search, {keys.DYNAMICAL: mine}, LOSS, adaptive=False)
    assert found is not None
    figure = draw_isolation(found)
    words = texts(figure)
    for expected in ("initialisation", "lecun normal", "momentum", "validation loss"):
        assert expected in words
    assert figure.axes[0].get_yscale() == "log"
    assert [axes.get_xscale() for axes in figure.axes[:2]] == ["linear", "linear"]
    assert draw_convergence(found).axes[0].get_yscale() == "log"


def test_the_convergence_figure() -> None:
    search, spaces = both_arms(40, 40)
    found = search_health(search, spaces, ACCURACY, adaptive=True)
    assert found is not None
    figure = draw_convergence(found)
    words = texts(figure)
    curves = found.convergence
    last = curves[keys.DYNAMICAL].last_improvement
    best = {arm: f"{arm}: {curve.best[-1]:.3f}" for arm, curve in curves.items()}
    for expected in (
        "Best so far",
        "trials",
        "validation accuracy",
        f"{best[keys.DYNAMICAL]}, within the tolerance from trial {last} of 40",
        f"{best[keys.STATIC]}, within",
        "last third",
        "Importances (fANOVA)",
        "dynamical (n = 40 trials)",
        "variance explained alone (± s.e.)",
        "daptive sampling biases importances",
        "tolerance",
    ):
        assert expected in words
    assert len(figure.axes[1].patches) == 3
    design = search_health(search, spaces, ACCURACY, adaptive=False)
    assert design is not None
    words = texts(draw_convergence(design))
    for expected in ("Expected best of that many trials", "(40 trials)", "smaller budgets"):
        assert expected in words
    assert "biases" not in words


def test_several_searches_are_drawn_together_and_counted_one_by_one() -> None:
    good = [0.5] * 20
    late = [0.1] * 19 + [0.5]
    parts = [table(rates(*np.geomspace(0.1, 10, 20)), values) for values in (good, late, good)]
    spaces = {keys.DYNAMICAL: space(learning_rate=RATE)}
    searches = [search_health(part, spaces, ACCURACY, adaptive=True) for part in parts]
    together = search_health(trials_together(parts), spaces, ACCURACY, adaptive=True)
    assert together is not None
    found = [each for each in searches if each is not None]
    assert len(found) == 3
    assert together.infeasible[keys.DYNAMICAL].trials == 60
    assert int(together.isolations[0].trials.sum()) == 60
    assert convergence_headline(found) == "dynamical converged in 2 of 3 searches"
    assert convergence_headline(found[:1]) == found[0].convergence_headline()
    assert convergence_headline([found[0], found[2]]).startswith("Converged in each of 2 searches")
    words = texts(draw_convergence(together, found))
    assert "dynamical: 0.500 to 0.500, converged in 2 of 3" in words
    assert "A line for each of 3 searches" in words
