"""Studies of which some blocks are not trained, or were lost, and winners that changed: analysed
with what is there, and each comparison with its own networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from search_spaces import FloatParameter, IntParameter, Space
from studies.analysis.across_studies import ComparedStudy, across, across_table, together
from studies.analysis.analyses import analyse
from studies.analysis.looks import Look
from studies.analysis.question import Question
from studies.analysis.study_analysis import Analysis
from studies.definition.arms import Pair
from studies.definition.phases import Phase

ARMS = ("static", "a", "b")
MATCHED = ("static_at_a", "static_at_b")
ONE = (Pair("a", "static"),)
THREE = (Pair("a", "static"), Pair("b", "static"), Pair("b", "a"))
WIDTH = "model.width"
POINTS = "data.points_per_class"


def space_of(arm: str, scientific: Sequence[str] = ()) -> Space:
    sizes = {name: IntParameter(low=10, high=40, role="scientific") for name in scientific}
    rate = {"learning_rate": FloatParameter(low=0.1, high=10.0, scale="log"), **sizes}
    if arm == "static":
        return Space(name="s", parameters=rate)
    period = IntParameter(low=10, high=100, scale="log", unit="steps")
    amplitude = FloatParameter(low=1.0, high=10.0, scale="log")
    return Space(name="s", parameters={"period": period, "amplitude": amplitude, **rate})


def question(pairs: tuple[Pair, ...], **changes: Any) -> Question:
    scientific = changes.get("scientific", ())
    arms = [arm for arm in ARMS if any(arm in pair for pair in pairs)]
    asked = Question(
        objective=keys.VALIDATION_ACCURACY,
        spaces={arm: space_of(arm, scientific) for arm in arms},
        pairs=pairs,
        margin=0.02,
        chance=0.1,
    )
    return replace(asked, **changes)


def networks(
    arm: str,
    phase: str,
    trial: int,
    value: float,
    n: int = 30,
    *,
    spread: float = 0.01,
    lost: Iterable[int] = (),
    at: dict[str, int] | None = None,
) -> list[dict[str, object]]:
    """Networks of one block: one trial in one phase, of which those `lost` diverged."""
    where = Phase.parse(phase)
    draws = np.random.default_rng([trial, where.round, where.search, n, len(arm), ord(arm[-1])])
    rows = []
    for number in range(n):
        drawn, diverged = value + draws.normal(0, spread), number in set(lost)
        metrics = {
            **dict.fromkeys((keys.TRAIN_ACCURACY, *_ACCURACIES), drawn),
            **dict.fromkeys((keys.TRAIN_LOSS, *_LOSSES), 1 - drawn),
        }
        rows.append(
            {
                keys.PHASE: phase,
                keys.ARM: arm,
                keys.TRIAL: trial,
                keys.SEED: 1_000_000 * where.search
                + 50_000 * where.is_fresh
                + 1_000 * where.round
                + number,
                keys.LEARNING_RATE: 1.0 + trial % 10,
                keys.PERIOD: None if "static" in arm else 50,
                keys.AMPLITUDE: 1.0 if "static" in arm else 5.0,
                keys.DIVERGED: diverged,
                keys.STEPS: 100,
                **(at or {}),
                **{name: np.nan if diverged else number for name, number in metrics.items()},
            }
        )
    return rows


_ACCURACIES = (keys.VALIDATION_ACCURACY, keys.TEST_ACCURACY)
_LOSSES = (keys.VALIDATION_LOSS, keys.TEST_LOSS)


def searched(number: int = 1, **at: int) -> list[dict[str, object]]:
    phase = str(Phase(keys.SEARCH, 1, number))
    where = at or None
    return [
        row for arm in ARMS for k in range(3) for row in networks(arm, phase, k, 0.7, 2, at=where)
    ]


def analysed(rows: list[dict[str, object]], asked: Question) -> Analysis:
    members = pd.DataFrame(rows)
    known = {*asked.spaces, *(f"static_at_{arm}" for arm in asked.spaces)}
    members = members[members[keys.ARM].isin(known)].reset_index(drop=True)
    found = analyse(members, pd.DataFrame(), asked)
    rows_across = across([ComparedStudy("s", "data", "model", members, asked, found)])
    across_table(rows_across)
    together(rows_across)
    return found


def test_a_changed_winner_of_the_reference_without_its_third_arm() -> None:
    """The block that is trained last is the one that is missing."""
    rows = [
        *searched(),
        *networks("a", "confirm", 1, 0.83),
        *networks("static", "confirm", 0, 0.80),
        *networks("static_at_a", "confirm", 1, 0.78),
        *networks("a", "confirm-2", 1, 0.83),
        *networks("static", "confirm-2", 2, 0.80),
    ]
    found = analysed(rows, question(ONE, looks=((1,), (2,)), matched=MATCHED))
    (verdict,) = found.verdicts
    assert (verdict.test.outcome, verdict.test.matched) == ("undecided", None)
    assert "no gain is claimed" in verdict.warnings[0]


def test_the_third_arm_of_an_old_winner_says_nothing_of_the_new_one() -> None:
    rows = []
    for number in (1, 2, 3):
        first, second = (str(Phase(keys.CONFIRM, k, number)) for k in (1, 2))
        rows += [
            *searched(number),
            *networks("a", first, 1, 0.83),
            *networks("static", first, 0, 0.80),
            *networks("static_at_a", first, 1, 0.78),
            *networks("a", second, 2, 0.84 + 0.001 * number),
            *networks("static", second, 2, 0.80),
        ]
    found = analysed(rows, question(ONE, looks=((1, 1, 1), (2, 2, 2)), matched=MATCHED))
    (verdict,) = found.verdicts
    assert verdict.points["a"][keys.LEARNING_RATE] == 3.0
    assert (verdict.test.matched, verdict.test.outcome) == (None, "undecided")


@pytest.mark.parametrize("pairs", [ONE, THREE])
def test_a_further_search_that_has_only_begun(pairs: tuple[Pair, ...]) -> None:
    twice = [
        row
        for phase in ("confirm", "confirm-2")
        for arm, value in (("static", 0.80), ("a", 0.83), ("b", 0.82))
        for row in networks(arm, phase, 1, value)
    ]
    before = analysed([*searched(), *twice], question(pairs, looks=((1,), (2,))))
    assert len(before.verdicts) == len(pairs)
    after = analysed([*searched(), *twice, *searched(2)], question(pairs, looks=((1,), (2,))))
    assert after.verdicts == ()
    assert any(said.startswith("Earlier look (confirm)") for said in after.findings())


def test_a_ladder_has_the_networks_of_its_steps_where_an_arm_beside_it_has_a_new_winner() -> None:
    rows = [
        *searched(),
        *(
            row
            for phase, n in (("confirm", 30), ("confirm-2", 3))
            for arm, value in (("static", 0.7), ("a", 0.8))
            for row in networks(arm, phase, 1, value, n)
        ),
        *networks("b", "confirm", 1, 0.75, 30),
        *networks("b", "confirm-2", 2, 0.75, 3),
    ]
    asked = question(THREE[:2], ladder=("static", "a"), looks=((1,), (2,)))
    found = analysed(rows, asked)
    (ladder,) = found.ladders
    assert [arm.n for arm in ladder.arms] == [33, 33]
    assert ladder.arms[1].mean - ladder.arms[0].mean == pytest.approx(
        ladder.steps[0].test.difference
    )
    of_a, of_b = across([ComparedStudy("s", "data", "model", pd.DataFrame(rows), asked, found)])
    assert (len(of_a.gains), len(of_b.gains)) == (of_a.n, of_b.n) == (33, 3)


@pytest.mark.parametrize("searches", [1, 6])
def test_survivors_of_a_loss_decide_nothing_over_sizes(searches: int) -> None:
    rows = []
    for number in range(1, searches + 1):
        phase = str(Phase(keys.CONFIRM, 1, number))
        for width in (10, 20):
            at = {WIDTH: width}
            rows += searched(number, **at)
            rows += networks("a", phase, width, 0.4, 30 // searches, lost=range(2), at=at)
            rows += networks("static", phase, width, 0.2, 30 // searches, at=at)
    asked = question(ONE, objective=keys.VALIDATION_LOSS, scientific=(WIDTH,))
    found = analysed(rows, asked)
    assert [verdict.test.outcome for verdict in found.verdicts] == ["undecided"] * 2
    (over_sizes,) = found.regimes.values()
    for size in over_sizes.sizes:
        assert size.gains[1].decision.outcome == "undecided"


def test_two_scientific_parameters_have_no_regimes_but_verdicts() -> None:
    rows = []
    for width in (10, 20):
        for points in (10, 40):
            at = {WIDTH: width, POINTS: points}
            trial = width + points
            rows += searched(**at)
            rows += networks("a", "confirm", trial, 0.83, at=at)
            rows += networks("static", "confirm", trial, 0.80, at=at)
    found = analysed(rows, question(ONE, scientific=(WIDTH, POINTS)))
    assert len(found.verdicts) == 4
    assert found.regimes == {}


def test_more_data_are_no_larger_network() -> None:
    rows = []
    for points in (10, 40):
        at = {POINTS: points, keys.PARAMETERS: 63}
        rows += searched(**at)
        rows += networks("a", "confirm", points, 0.83, at=at)
        rows += networks("static", "confirm", points, 0.80, at=at)
    found = analysed(rows, question(ONE, scientific=(POINTS,)))
    assert len(found.verdicts) == 2
    assert found.regimes == {}


def test_an_infinite_loss_on_other_data_is_no_number_to_compare() -> None:
    rows = [
        *searched(),
        *networks("a", "confirm", 1, 0.4),
        *networks("static", "confirm", 1, 0.2),
    ]
    rows[-1] |= {keys.TEST_LOSS: np.inf, keys.VALIDATION_LOSS: np.inf}
    found = analysed(rows, question(ONE, objective=keys.VALIDATION_LOSS))
    assert found.verdicts[0].test.n == 29


def some_study(seed: int) -> tuple[list[dict[str, object]], Question]:
    """A study of up to three searches and rounds, of which any share of the blocks is there."""
    draws = np.random.default_rng(seed)
    searches, rounds = int(draws.integers(1, 4)), int(draws.integers(0, 4))
    sized, objective = bool(draws.integers(2)), _LOSSES[0] if draws.integers(2) else _ACCURACIES[0]
    blocks = []
    for number in range(1, searches + 1):
        for width in (10, 20) if sized else (10,):
            at = {WIDTH: width} if sized else None
            for arm in (*ARMS, *MATCHED):
                phases = [(str(Phase(keys.SEARCH, 1, number)), 10 * width + k) for k in range(3)]
                winner = 10 * width
                fresh = []
                for k in range(1, rounds + 1):
                    winner = 10 * width + int(draws.integers(3)) if draws.random() < 0.3 else winner
                    fresh.append((str(Phase(keys.CONFIRM, k, number)), winner))
                for phase, trial in [*(phases if arm in ARMS else []), *fresh]:
                    lost = np.flatnonzero(draws.random(4) < 0.08)
                    blocks.append(
                        networks(arm, phase, trial, 0.7, 4, spread=0.03, lost=lost, at=at)
                    )
    share = draws.uniform(0.4, 1)
    kept = [block for block in blocks if draws.random() < share] or blocks[:1]
    looks: tuple[Look, ...] = ()
    asked = question(
        THREE,
        objective=objective,
        ladder=ARMS,
        scientific=(WIDTH,) if sized else (),
        matched=MATCHED if draws.integers(2) else (),
        looks=looks,
    )
    return [row for block in kept for row in block], asked


@pytest.mark.parametrize("seed", range(3))
def test_whatever_blocks_are_there_can_be_analysed(seed: int) -> None:
    found = analysed(*some_study(seed))
    found.findings()
    found.warnings()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 40))
def test_whatever_blocks_are_there_can_be_analysed_at_length(seed: int) -> None:
    analysed(*some_study(seed)).findings()
