"""Several arms: every comparison counted, the ladder, and cards that name their pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dynloss_core import keys
from search_spaces import FloatParameter, IntParameter, Space
from studies.analysis.across_studies import ComparedStudy, across
from studies.analysis.analyses import analyse
from studies.analysis.figures.comparisons import draw_comparisons, draw_ladder
from studies.analysis.ladder import ladders_of
from studies.analysis.question import Question
from studies.analysis.setting_verdicts import verdicts_of
from studies.analysis.study_analysis import Analysis
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair
from tests.studies.analysis.hall import p_that_decides

LADDER = ("static", "random", "classes")
PAIRS = (Pair("random", "static"), Pair("classes", "static"), Pair("classes", "random"))
TRUE = {"static": 0.70, "random": 0.80, "classes": 0.802}
WIDTH = "model.width"
SEEDS = 30


def space_of(arm: str, *, sized: bool) -> Space:
    rate = {"learning_rate": FloatParameter(low=0.1, high=10.0, scale="log")}
    width = {WIDTH: IntParameter(low=10, high=20, scale="log", role="scientific")}
    own = {**rate, **(width if sized else {})}
    if arm == "static":
        return Space(name="s", parameters=own)
    period = IntParameter(low=10, high=100, scale="log", unit="steps")
    amplitude = FloatParameter(low=1.0, high=10.0, scale="log")
    return Space(name="s", parameters={"period": period, "amplitude": amplitude, **own})


def members_of(widths: tuple[int, ...] = (10,), seed: int = 0) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    rows = []
    for width in widths:
        luck = draws.normal(0, 0.05, SEEDS)  # of a seed, which all arms share
        for arm in LADDER:
            for phase, first in ((keys.SEARCH, 0), (keys.CONFIRM, 50_000)):
                for index in range(SEEDS):
                    value = TRUE[arm] + luck[index] + draws.normal(0, 0.004)
                    rows.append(
                        {
                            keys.PHASE: phase,
                            keys.ARM: arm,
                            keys.TRIAL: width,
                            keys.SEED: first + index,
                            WIDTH: width,
                            keys.LEARNING_RATE: 1.0,
                            keys.PERIOD: None if arm == "static" else 50,
                            keys.AMPLITUDE: 1.0 if arm == "static" else 5.0,
                            keys.VALIDATION_ACCURACY: value,
                            keys.TEST_ACCURACY: value,
                            keys.TRAIN_ACCURACY: value,
                            keys.DIVERGED: False,
                            keys.STEPS: 100,
                        }
                    )
    return pd.DataFrame(rows)


def question(*, sized: bool = False) -> Question:
    return Question(
        objective=keys.VALIDATION_ACCURACY,
        spaces={arm: space_of(arm, sized=sized) for arm in LADDER},
        pairs=PAIRS,
        ladder=LADDER,
        scientific=(WIDTH,) if sized else (),
        margin=0.01,
    )


def analysed(widths: tuple[int, ...] = (10,)) -> Analysis:
    asked = question(sized=len(widths) > 1)
    return analyse(members_of(widths), pd.DataFrame(), asked)


def test_every_pair_is_judged_and_all_p_values_count_each_other() -> None:
    members = members_of()
    verdicts, _ = verdicts_of(Tables(members, pd.DataFrame(), question()))
    fresh = members[members[keys.PHASE] == keys.CONFIRM]
    wide = fresh.pivot(index=keys.SEED, columns=keys.ARM, values=keys.TEST_ACCURACY)
    t = [float(stats.ttest_rel(wide[a], wide[b]).pvalue) for a, b in PAIRS]
    p = [p_that_decides((wide[a] - wide[b]).to_numpy()) for a, b in PAIRS]
    assert [verdict.test.pair for verdict in verdicts] == list(PAIRS)
    assert [verdict.test.p_t for verdict in verdicts] == pytest.approx(t)
    assert [verdict.test.p for verdict in verdicts] == pytest.approx(p)
    holm = multipletests(p, method="holm")[1]
    assert [verdict.p_adjusted for verdict in verdicts] == pytest.approx(holm)
    for verdict, (arm, reference) in zip(verdicts, PAIRS, strict=True):
        assert verdict.test.difference == pytest.approx((wide[arm] - wide[reference]).mean())
        assert f"over {len(PAIRS)} comparisons (Holm)" in verdict.sentence()
        assert arm in verdict.sentence()
        assert reference in verdict.sentence()


def test_a_pair_alone_is_what_it_is_in_a_study_of_two_arms() -> None:
    members, pair = members_of(), Pair("random", "static")
    alone = replace(
        question(), pairs=(pair,), ladder=(), spaces={a: space_of(a, sized=False) for a in pair}
    )
    two = members[members[keys.ARM].isin(pair)]
    (single,), _ = verdicts_of(Tables(two, pd.DataFrame(), alone))
    first, *_ = verdicts_of(Tables(members, pd.DataFrame(), question()))[0]
    (failed, of_three), (own, alone_failed) = (
        (replace(found.test, failures=None), found.test.failures) for found in (first, single)
    )
    assert failed == own
    assert of_three is not None
    assert alone_failed is not None
    assert of_three.low < alone_failed.low < alone_failed.high < of_three.high, "they share 5%"
    assert first.points == single.points
    assert single.p_adjusted == single.test.p
    beside_a_third, _ = verdicts_of(
        Tables(members, pd.DataFrame(), replace(question(), pairs=(pair,), ladder=()))
    )
    assert beside_a_third == (single,)


def test_the_ladder_says_which_step_a_gain_is_owed_to() -> None:
    (ladder,) = ladders_of(Tables(members_of(), pd.DataFrame(), question()))
    assert [arm.name for arm in ladder.arms] == list(LADDER)
    assert [step.test.outcome for step in ladder.steps] == ["better", "equivalent"]
    assert ladder.whole is not None
    steps = sum(step.test.difference for step in ladder.steps)
    assert steps == pytest.approx(ladder.whole.test.difference), "the steps add up"
    sentence = ladder.sentence()
    assert "classes against static" in sentence
    assert "classes over random" in sentence
    assert "equivalent within ±0.01" in sentence


@pytest.mark.slow
def test_one_ladder_a_setting_and_none_where_a_rung_is_missing() -> None:
    members = members_of((10, 20))
    tables = Tables(members, pd.DataFrame(), question(sized=True))
    assert [ladder.label for ladder in ladders_of(tables)] == ["width 10", "width 20"]
    lost = (members[WIDTH] == 20) & (members[keys.ARM] == "random")
    fewer = Tables(members[~lost], pd.DataFrame(), question(sized=True))
    assert [ladder.label for ladder in ladders_of(fewer)] == ["width 10"]


def test_over_sizes_a_gain_is_claimed_where_its_verdict_claims_it() -> None:
    analysis = analysed((10, 20))
    verdicts = {
        (verdict.test.pair, verdict.setting[WIDTH]): verdict for verdict in analysis.verdicts
    }
    assert len(analysis.regimes) == 2
    for regimes in analysis.regimes.values():
        assert (regimes.compared, regimes.pairs) == (len(verdicts), len(PAIRS))
        assert f"over {len(verdicts)} comparisons (Holm)" in regimes.sentences()[0]
        for size in regimes.sizes:
            verdict, gain = verdicts[regimes.pair, size.value], size.gains[1]
            assert gain.decision.outcome == verdict.test.outcome
            assert gain.p_adjusted == pytest.approx(verdict.p_adjusted)


def test_cards_and_files_name_their_pair() -> None:
    analysis = analysed((10, 20))
    names = [drawing.name for card in analysis.cards for drawing in card.drawings]
    assert len(names) == len(set(names))
    assert {"comparisons", "ladder", "regimes_width_random_static"} <= set(names)
    assert "regimes_width_classes_random" not in names, "maps are against the reference"
    files = [name for card in analysis.cards for name in card.files]
    assert len(files) == len(set(files))
    assert {"comparisons.csv", "ladder.csv", "regimes_width_classes_static.csv"} <= set(files)
    assert len(analysis.regimes) == 2
    by_name = {name: table for card in analysis.cards for name, table in card.files.items()}
    assert len(by_name["comparisons.csv"]) == 6
    assert len(by_name["ladder.csv"]) == 6


@pytest.mark.slow
def test_figures_are_drawn() -> None:
    tables = Tables(members_of((10, 20)), pd.DataFrame(), question(sized=True))
    verdicts, _ = verdicts_of(tables)
    assert len(draw_comparisons(verdicts).axes) == 1
    assert len(draw_ladder(ladders_of(tables)).axes) == 4


def test_beside_other_studies_each_arm_has_a_row() -> None:
    tables = ComparedStudy("a", "spirals", "mlp", members_of(), question(), analysed())
    rows = across([tables])
    assert [row.setting for row in rows] == ["random against static", "classes against static"]
    assert not any(row.is_published for row in rows)
    for row, pair in zip(rows, PAIRS, strict=False):
        (verdict,) = (v for v in tables.analysis.verdicts if v.test.pair == pair)
        assert row.gain == pytest.approx(verdict.test.difference)
        assert row.warnings == verdict.warnings


def test_nothing_is_said_of_arms_that_are_not_compared() -> None:
    asked = replace(question(), pairs=(), ladder=())
    analysis = analyse(members_of(), pd.DataFrame(), asked)
    assert analysis.verdicts == ()
    assert set(analysis.winners) == set(LADDER)
    drawings = [drawing for card in analysis.cards for drawing in card.drawings]
    assert {f"isolation_{arm}" for arm in LADDER} <= {drawing.name for drawing in drawings}
    assert all(drawing.draw() for drawing in drawings if drawing.draw)
