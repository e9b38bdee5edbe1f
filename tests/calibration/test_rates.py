"""The short form of `make calibrate`: what is claimed without a warning errs no more than it may."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.gains.speed import Speed, speed
from studies.analysis.statistics.evidence import claim_of, evidence_of
from tests.calibration.rates import NOMINAL, PAIR, RESULTS, above, judged, rates
from tests.calibration.scenarios import Shape, Simulated, from_tables
from tests.calibration.searches import clustered_rates, map_rates, search_rates


@pytest.mark.parametrize("shape", ["normal", "skewed", "bimodal"])
@pytest.mark.parametrize(("arm", "reference"), [(0.0, 0.0), (0.02, 0.0), (0.05, 0.02)])
def test_the_mean_of_a_scenario_is_what_was_asked_for(
    shape: str, arm: float, reference: float
) -> None:
    scenario = Simulated(shape, arm, reference)  # type: ignore[arg-type]
    draws = np.random.default_rng(0)
    for of, mean in itertools.product(("all", "trained"), (0.0, 0.03)):
        drawn = scenario.draw((2000, 100), mean, draws, of)  # type: ignore[arg-type]
        trained = drawn.trained(np.full(2000, 0.65))
        assert (drawn.mean if of == "all" else trained) == pytest.approx(mean, abs=1e-12)
        lives = (drawn.arm > 0.65) & (drawn.reference > 0.65)
        difference = drawn.arm - drawn.reference
        for values, truth in (
            (difference.mean(axis=1), drawn.mean),
            (np.nanmean(np.where(lives, difference, np.nan), axis=1), trained),
        ):
            error = float(values.std() / np.sqrt(len(values)))
            assert abs(float((values - truth).mean())) < 4 * error


@pytest.mark.parametrize("dies", [(0.02, 0.0), (0.1, 0.02)])
@pytest.mark.parametrize("n", [24, 40])
def test_many_at_once_are_judged_as_one_is(n: int, dies: tuple[float, float]) -> None:
    scenario = Simulated("skewed", *dies)
    drawn = scenario.draw((200, n), 0.008, np.random.default_rng(1), "trained")
    found = judged((drawn.arm, drawn.reference), scenario.margin, scenario.failure)
    seen = set()
    for row, (arm, reference) in enumerate(zip(drawn.arm, drawn.reference, strict=True)):
        evidence = evidence_of(
            pd.DataFrame({"arm": arm, "reference": reference}),
            PAIR,
            is_accuracy=True,
            **scenario.failure,
        )
        claim = claim_of(evidence, scenario.margin, higher_is_better=True, plans=False)
        outcome, everyone = claim.decision.outcome, evidence.everyone
        sign = outcome.startswith("better") - outcome.startswith("worse")
        same = outcome.endswith("within_margin") or outcome == "equivalent"
        assert found.better[row] == (0 if claim.of_trained else sign)
        assert found.same[row] == (same and not claim.of_trained)
        assert found.better_of_trained[row] == (sign if claim.of_trained else 0)
        assert found.same_of_trained[row] == (same and claim.of_trained)
        assert (found.low[row], found.high[row]) == pytest.approx((everyone.low, everyone.high))
        assert found.failed[row] == (evidence.trained is not everyone)
        seen.add((outcome, claim.of_trained))
    assert len(seen) > 1 or n < 30


def test_times_are_judged_as_speed_judges_them() -> None:
    """The share of a run that is left, as networks that get there with so much left."""
    scenario = Simulated("normal", 0.1, 0.02, "times")
    left = scenario.draw((40, 36), 0.03, np.random.default_rng(2))
    verdicts = judged((left.arm, left.reference), scenario.margin, scenario.failure)
    claims = []
    for row in range(40):
        result = _speed({"arm": left.arm[row], "reference": left.reference[row]})
        assert result.faster == (max(verdicts.better[row], verdicts.better_of_trained[row]) > 0)
        assert result.of_those_there == (verdicts.better_of_trained[row] != 0)
        low, high = (-end / result.end for end in reversed(result.unseen))
        assert (low, high) == pytest.approx(
            (verdicts.unseen_low[row], verdicts.unseen_high[row]), abs=2e-3
        )
        claims.append((result.faster, result.of_those_there))
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
@pytest.mark.parametrize("shape", ["normal", "bimodal"])
def test_what_is_claimed_errs_no_more_than_it_may(
    shape: Shape, die: float, of: Literal["accuracies", "times"]
) -> None:
    found = rates(Simulated(shape, die, 0.0, of), 100, repeats=150)
    for name, nominal in NOMINAL.items():
        assert not above(getattr(found, name), nominal, found.repeats), name
    if of == "accuracies" and shape == "normal":
        assert above(found.t_better, 0.025, found.repeats) == (die > 0)
        assert found.finds_five_points > 0.95
        assert found.finds_five_points_of_all > (0.65 if die else 0.95)


def test_few_pairs_of_two_peaks_claim_nothing() -> None:
    found = rates(Simulated("bimodal", 0.0, 0.0), 6, repeats=150)
    assert above(found.t_better, 0.025, found.repeats)
    assert found.false_better == found.false_better_of_trained == 0.0
    assert found.missed is None


def test_pairs_of_committed_tables_have_no_mean_difference() -> None:
    tables = {each.name: each for each in from_tables(RESULTS)}
    assert {"digits_controls", "spirals_controls_one_search", "spirals_phase_diagram"} <= set(
        tables
    )
    for each in tables.values():
        for arm, reference in each.pairs:
            assert float((arm - reference).mean()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("scenario", "luck"),
    [(Simulated("normal", 0.0, 0.0), 0.25), (Simulated("skewed", 0.02, 0.0), 0)],
)
def test_searches_keep_the_rate_that_one_search_exceeds(scenario: Simulated, luck: float) -> None:
    found = search_rates(scenario, luck, 5, 20, repeats=300)
    assert above(found.one_better, 0.025, found.repeats)
    for rate in (found.better, found.better_of_trained):
        assert not above(rate, 0.025, found.repeats)
    for rate in (found.same, found.same_of_trained, found.missed):
        assert not above(rate, 0.05, found.repeats)
    assert found.finds_five_points > 0.9


def test_winners_that_fail_alike_are_covered_and_one_in_ten_is_not_seen_by_five() -> None:
    alike = clustered_rates(1.0, 0.06, 5, 20, repeats=200)
    assert not above(alike.better, 0.025, alike.repeats)
    few, many = (clustered_rates(0.1, 0.6, searches, 20, repeats=200) for searches in (5, 40))
    assert above(few.better, 0.025, few.repeats), "as the pages say"
    assert many.better < few.better


def test_maps_keep_the_rate_that_they_exceeded() -> None:
    found = map_rates(Simulated("normal", 0.0, 0.0), repeats=200)
    assert above(found.by_t, 0.05, found.repeats)
    assert not above(found.by_flips, 0.05, found.repeats)


def test_the_page_has_the_rates_of_winners_that_fail_unlike_others() -> None:
    here = Path(__file__).parent
    rows = json.loads((here / "rates.json").read_text(encoding="utf-8"))["clustered"]
    page = (here / "README.md").read_text(encoding="utf-8")
    table = page.partition("| winners that fail | 5 searches |")[2].partition("\n\n")[0]
    said = [re.findall(r"([\d.]+)%", line)[-3:] for line in table.splitlines()[2:]]
    cases = dict.fromkeys((row["bad"], row["fails"]) for row in rows)
    assert len(said) == len(cases)
    for numbers, case in zip(said, cases, strict=True):
        found = [100 * row["better"] for row in rows if (row["bad"], row["fails"]) == case]
        for number, rate in zip(numbers, found, strict=True):
            assert float(number) == pytest.approx(rate, abs=0.51)  # as it is rounded
