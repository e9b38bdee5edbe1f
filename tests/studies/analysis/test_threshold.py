"""The threshold of instabilities: known constants and exponents come back, and what does not count
is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.figures import draw_threshold
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
    **row: object,
) -> RecordedRun:
    """A run with one instability before which lambda_max was `sharp`, and which ends there."""
    one = {
        "onset": 900, "end": 990, "begins_before": False, "period_number": 0,
        keys.LEARNING_RATE: rate, "hessian_before": sharp, **row,
    }  # fmt: skip
    steps = np.arange(0, 1001, 50)
    curvature = pd.DataFrame(
        {keys.STEP: steps, keys.HESSIAN_LAMBDA_MAX: sharp, keys.LEARNING_RATE: rate}
    )
    frame = pd.DataFrame([one]).astype({"period_number": "Int64"})
    point = {keys.LEARNING_RATE: rate, WIDTH: width}
    return RecordedRun(arm, seed, point, frame, pd.DataFrame(), curvature, accuracy)


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
    for each in found.sizes:
        assert each.low < 2.0 < each.high
        assert each.high - each.low < 0.05
        assert each.exponent is not None
        assert each.exponent_low < -1 < each.exponent_high
        assert (each.runs, each.instabilities) == (32, 32)
    assert found.p_size is not None
    assert found.p_size > 0.05
    assert "is not seen to depend on width" in " ".join(found.sentences())


def test_a_dependence_on_the_size_is_seen() -> None:
    found = found_in(study_of({25: 1.9, 100: 2.1}))
    assert found.p_size is not None
    assert found.p_size < 1e-6
    assert "k depends on width" in " ".join(found.sentences())


def test_another_power_of_the_learning_rate_is_seen() -> None:
    found = found_in(study_of({25: 2.0, 100: 2.0}, exponent=-0.5))
    for each in found.sizes:
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
        if found.p_size is not None:
            rejected += found.p_size < 0.05
    assert 8 <= rejected <= 36  # 20 expected, 4.4 the standard deviation


@pytest.mark.parametrize(
    "row", [{"begins_before": True}, {"period_number": pd.NA}, {"hessian_before": np.nan}]
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
    assert "1 end with lambda_max times the learning rate at 2 or above" in fail
    assert "1 more diverged" in fail
    assert learn.startswith("Of 1 static runs that learn")
    figure = draw_threshold(found)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Threshold over learning rate",
        "k at each size",
        "Static runs",
    ]


def test_a_size_with_one_run_is_left_out() -> None:
    good = study_of({25: 2.0, 100: 2.0})
    lone = run_of(keys.DYNAMICAL, 0, 1.0, 400, 5.0)
    found = found_in(Recordings((*good.runs, lone)))
    assert [each.size for each in found.sizes] == [25, 100]
    assert found.p_size == found_in(good).p_size
    draw_threshold(found)
    alone = [run_of(keys.DYNAMICAL, 0, 1.0, width, 2.0) for width in (25, 100)]
    assert threshold(Recordings(tuple(alone)), WIDTH) is None


def test_one_learning_rate_and_size_give_no_threshold() -> None:
    runs = [run_of(keys.DYNAMICAL, seed, 1.0, 25, 2.0) for seed in range(4)]
    assert threshold(Recordings(tuple(runs)), WIDTH) is None
    assert threshold(Recordings(()), None) is None
