"""The threshold of instabilities: known constants and exponents come back, and what does not count
is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from dynloss_core.landscape import stability_bound
from studies.analysis.figures.landscape.threshold import draw_threshold
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings
from studies.analysis.landscape.threshold import Threshold, threshold

WIDTH = "model.width"
RATES = (0.25, 0.5, 1.0, 2.0)
WIDTHS = (25, 100)


def run_of(
    arm: str,
    seed: int,
    rate: float,
    width: int,
    sharp: float,
    *,
    accuracy: float = 0.99,
    momentum: float = 0.0,
    nesterov: bool = False,
    **row: object,
) -> RecordedRun:
    """A run with one instability at which lambda_max is `sharp`, and which ends there."""
    one = {
        "onset": 900, "end": 990, "begins_before": False, "period_number": 0,
        keys.LEARNING_RATE: rate, "hessian_at_onset": sharp, **row,
    }  # fmt: skip
    steps = np.arange(0, 1001, 50)
    curvature = pd.DataFrame(
        {keys.STEP: steps, keys.HESSIAN_LAMBDA_MAX: sharp, keys.LEARNING_RATE: rate}
    )
    frame = pd.DataFrame([one]).astype({"period_number": "Int64"})
    period = 1000 if arm != keys.STATIC else None
    point = {
        keys.LEARNING_RATE: rate, WIDTH: width, keys.MOMENTUM: momentum, keys.PERIOD: period,
    }  # fmt: skip
    return RecordedRun(
        arm, seed, point, frame, pd.DataFrame(), curvature, accuracy, nesterov=nesterov
    )


def study_of(k: dict[int, float], exponent: float = -1.0, noise: float = 0.02) -> Recordings:
    draws = np.random.default_rng(0)
    runs = [
        run_of(
            keys.DYNAMICAL,
            seed,
            rate,
            width,
            k[width] * rate**exponent * np.exp(noise * draws.standard_normal()),
        )
        for width in WIDTHS
        for rate in RATES
        for seed in range(8)
    ]
    return Recordings(tuple(runs))


def found_in(recorded: Recordings) -> Threshold:
    found = threshold(recorded, WIDTH)
    assert found is not None
    return found


def test_a_known_constant_comes_back_inside_its_interval() -> None:
    found = found_in(study_of({25: 2.0, 100: 2.0}))
    for each in found.settings:
        assert each.low < 2.0 < each.high
        assert each.high - each.low < 0.05
        assert each.bound == 2.0
        assert each.equivalent
        assert each.exponent is not None
        assert each.exponent_low < -1 < each.exponent_high
        assert (each.runs, each.instabilities) == (32, 32)
    assert found.p_same is not None
    assert found.p_same > 0.05
    assert found.equivalent
    assert "k is the same within 10% at any two values of width" in " ".join(found.sentences())


def test_a_dependence_on_the_size_is_seen() -> None:
    found = found_in(study_of({25: 1.8, 100: 2.1}))
    assert found.p_same is not None
    assert found.p_same < 1e-6
    assert found.apart is not None
    assert 2.1 / 1.8 < found.apart < 1.2
    assert "k is not shown to be the same within 10%" in " ".join(found.sentences())
    small = found_in(study_of({25: 1.95, 100: 2.05}))  # a difference, and an equivalent one
    assert small.p_same is not None
    assert small.p_same < 1e-3
    assert small.equivalent


def test_another_power_of_the_learning_rate_is_seen() -> None:
    found = found_in(study_of({25: 2.0, 100: 2.0}, exponent=-0.5))
    for each in found.settings:
        assert each.exponent == pytest.approx(-0.5, abs=0.02)
        assert each.exponent_low > -1


@pytest.mark.slow
def test_noise_alone_rejects_one_size_in_twenty() -> None:
    """The F test keeps its level where blocks differ and are incomplete."""
    draws = np.random.default_rng(1)
    rejected = 0
    for _ in range(400):
        runs = [
            run_of(keys.DYNAMICAL, seed, rate, width, float(np.exp(block + draws.normal(0, 0.1))))
            for rate in (0.5, 1.0)
            for seed in range(4)
            for block in [draws.normal()]
            for width in (25, 50, 100)
            if draws.random() > 0.2
        ]
        found = threshold(Recordings(tuple(runs)), WIDTH)
        assert found is not None
        if found.p_same is not None:
            rejected += found.p_same < 0.05
    assert 8 <= rejected <= 36  # 20 expected, 4.4 the standard deviation


@pytest.mark.parametrize(
    "row", [{"begins_before": True}, {"period_number": pd.NA}, {"hessian_at_onset": np.nan}]
)
def test_what_does_not_count_is_left_out(row: dict[str, object]) -> None:
    good = study_of({25: 2.0, 100: 2.0})
    odd = run_of(keys.DYNAMICAL, 99, 1.0, 25, 50.0, **row)
    assert found_in(Recordings((*good.runs, odd))).table().equals(found_in(good).table())


def test_static_runs_that_fail_and_learn_are_told_apart() -> None:
    static = [
        run_of(keys.STATIC, 0, 1.0, 25, 3.0, accuracy=0.5),
        run_of(keys.STATIC, 1, 1.0, 25, 1.0, accuracy=0.6),
        run_of(keys.STATIC, 2, 1.0, 25, 1.5, accuracy=0.95),
        run_of(keys.STATIC, 3, 1.0, 25, 1.5, accuracy=np.nan),
    ]
    found = found_in(Recordings((*study_of({25: 2.0, 100: 2.0}).runs, *static)))
    assert found.static["fails"].tolist() == [True, True, False, True]
    *_, fail, learn = found.sentences()
    assert fail.startswith("Of 2 static runs that fail")
    assert "1 end with lambda_max times the learning rate at or above the bound" in fail
    assert "1 more diverged" in fail
    assert learn.startswith("Of 1 static runs that learn")
    figure = draw_threshold(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Threshold against learning rate",
        "k at each width",
        "Static runs",
    ]


def test_a_size_with_one_run_is_left_out() -> None:
    good = study_of({25: 2.0, 100: 2.0})
    lone = run_of(keys.DYNAMICAL, 0, 1.0, 400, 5.0)
    found = found_in(Recordings((*good.runs, lone)))
    assert [each.value for each in found.settings] == [25, 100]
    assert found.p_same == found_in(good).p_same
    draw_threshold(found)
    alone = [run_of(keys.DYNAMICAL, 0, 1.0, width, 2.0) for width in (25, 100)]
    assert threshold(Recordings(tuple(alone)), WIDTH) is None


def test_one_learning_rate_and_size_give_no_threshold() -> None:
    runs = [run_of(keys.DYNAMICAL, seed, 1.0, 25, 2.0) for seed in range(4)]
    assert threshold(Recordings(tuple(runs)), WIDTH) is None
    assert threshold(Recordings(()), None) is None


def test_each_optimiser_is_held_against_its_own_bound() -> None:
    """Heavy ball and Nesterov at three momenta: k is another each time, k / bound is not."""
    runs = [
        run_of(
            arm,
            seed,
            1.0,
            25,
            stability_bound(momentum, nesterov=nesterov) * np.exp(0.02 * (seed - 3.5)),
            momentum=momentum,
            nesterov=nesterov,
        )
        for arm, nesterov in (("heavy_ball", False), ("nesterov", True))
        for momentum in (0.0, 0.5, 0.9)
        for seed in range(8)
    ]
    found = threshold(Recordings(tuple(runs)), None)
    assert found is not None
    assert found.parameter == keys.MOMENTUM
    assert [(each.arm, each.value) for each in found.settings] == [
        (arm, momentum) for arm in ("heavy_ball", "nesterov") for momentum in (0.0, 0.5, 0.9)
    ]
    assert all(each.low < each.bound < each.high and each.equivalent for each in found.settings)
    assert found.equivalent
    assert found.p_same is not None
    assert found.p_same > 0.01
    *_, together = found.sentences()
    assert "k / bound is the same within 10% at any two values of momentum and arms" in together
    assert "times the stability bound" in found.headline()
    figure = draw_threshold(found)
    assert [each.get_text() for each in figure.axes[1].get_xticklabels()] == ["0", "0.5", "0.9"]
