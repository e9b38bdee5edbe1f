"""The short form of `make calibrate`: what is claimed without a warning errs no more than it may."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.gains.speed import Speed, speed
from studies.analysis.statistics.comparison import compare
from studies.analysis.statistics.equivalence import decide
from tests.calibration.rates import NOMINAL, PAIR, RESULTS, above, judged, rates
from tests.calibration.scenarios import Simulated, from_tables
from tests.calibration.searches import map_rates, search_rates


@pytest.mark.parametrize("shape", ["normal", "skewed", "bimodal"])
@pytest.mark.parametrize(("arm", "reference"), [(0.0, 0.0), (0.02, 0.0), (0.05, 0.02)])
def test_the_mean_of_a_scenario_is_what_was_asked_for(
    shape: str, arm: float, reference: float
) -> None:
    scenario = Simulated(shape, arm, reference)  # type: ignore[arg-type]
    draws = np.random.default_rng(0)
    for mean in (0.0, 0.03):
        new, old = scenario.draw((2000, 100), mean, draws)
        difference = (new - old).mean(axis=1)
        error = float(difference.std() / np.sqrt(len(difference)))
        assert abs(float(difference.mean()) - mean) < 4 * error


def test_many_at_once_are_judged_as_one_is() -> None:
    scenario = Simulated("normal", 0.02, 0.0)
    accuracies = scenario.draw((200, 24), 0.008, np.random.default_rng(1))
    found = judged(accuracies, scenario.margin, scenario.failure)
    for row, difference in enumerate(accuracies[0] - accuracies[1]):
        one = compare(difference)
        outcome = decide(one, scenario.margin, higher_is_better=True).outcome
        assert found.better[row] == outcome.startswith("better")
        same = outcome.endswith("within_margin") or outcome == "equivalent"
        assert found.same[row] == same
        assert found.holds[row] == (one.low <= 0 <= one.high)


def test_times_are_judged_as_speed_judges_them() -> None:
    """The share of a run that is left, as networks that get there with so much left."""
    scenario = Simulated("normal", 0.1, 0.02, "times")
    left = scenario.draw((40, 24), 0.03, np.random.default_rng(2))
    verdicts = judged(left, scenario.margin, scenario.failure)
    claims = []
    for row in range(40):
        result = _speed({"arm": left[0][row], "reference": left[1][row]})
        assert result.faster == verdicts.better[row]
        low, high = (-end / result.end for end in reversed(result.unseen))
        assert (low, high) == pytest.approx((verdicts.low[row], verdicts.high[row]), abs=2e-3)
        claims.append((result.faster, result.is_fragile))
    assert len(set(claims)) > 1


def _speed(left: dict[str, np.ndarray]) -> Speed:
    """Networks that jump to their end with a share of their run left."""
    steps = np.arange(0, 10_001, 10)
    members, curves = [], []
    for arm, shares in left.items():
        for seed, share in enumerate(shares):
            network = {keys.PHASE: keys.CONFIRM, keys.ARM: arm, keys.TRIAL: 0, keys.SEED: seed}
            members.append({**network, keys.STEPS: 10_000})
            there = steps >= round(10_000 * (1 - share)) if share > 0 else np.zeros(len(steps))
            values = pd.DataFrame({keys.STEP: steps, keys.VALIDATION_ACCURACY: 0.9 * there})
            curves.append(values.assign(**network))
    found = speed(pd.DataFrame(members), pd.concat(curves), PAIR)
    assert found is not None
    return found


@pytest.mark.parametrize("of", ["accuracies", "times"])
@pytest.mark.parametrize("die", [0.0, 0.01])
def test_what_is_claimed_without_a_warning_errs_no_more_than_it_may(
    die: float, of: Literal["accuracies", "times"]
) -> None:
    found = rates(Simulated("normal", die, 0.0, of), 100, repeats=150)
    for name in ("unwarned_better", "unwarned_equivalent", "missed_with_unseen"):
        assert not above(getattr(found, name), NOMINAL[name], found.repeats), name
    if of == "accuracies":
        assert above(found.false_better, NOMINAL["false_better"], found.repeats) == (die > 0)
        assert found.finds_five_points > 0.8


def test_pairs_of_committed_tables_have_no_mean_difference() -> None:
    tables = {each.name: each for each in from_tables(RESULTS)}
    assert {"digits_controls", "spirals_controls_one_search", "spirals_phase_diagram"} <= set(
        tables
    )
    for each in tables.values():
        for arm, reference in each.pairs:
            assert float((arm - reference).mean()) == pytest.approx(0.0, abs=1e-12)


def test_searches_keep_the_rate_that_one_search_exceeds() -> None:
    found = search_rates(Simulated("normal", 0.0, 0.0), 0.25, 5, 20, repeats=600)
    assert above(found.one_better, 0.025, found.repeats)
    assert not above(found.better, 0.025, found.repeats)
    assert not above(found.missed, 0.05, found.repeats)
    assert found.finds_five_points > 0.9


def test_maps_keep_the_rate_that_they_exceeded() -> None:
    found = map_rates(Simulated("normal", 0.0, 0.0), repeats=200)
    assert above(found.by_t, 0.05, found.repeats)
    assert not above(found.by_flips, 0.05, found.repeats)
