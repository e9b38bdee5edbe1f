"""Studies side by side."""

from __future__ import annotations

import numpy as np
import pytest

from dynloss_core import keys
from studies.analysis.across_studies import ComparedStudy, across, across_table
from studies.analysis.figures.across import draw_across
from studies.analysis.gains.regimes import regimes
from studies.analysis.gains.swept_sizes import sweep_of
from studies.analysis.question import Question
from studies.analysis.study_analysis import Analysis
from tests.studies.analysis.gain_tables import search
from tests.studies.analysis.width_sweep import WIDTH, WIDTHS, sweep


def tables() -> list[ComparedStudy]:
    sizes = Question(keys.VALIDATION_ACCURACY, {}, scientific=(WIDTH,))
    plain = Question(keys.VALIDATION_ACCURACY, {}, margin=0.4)
    one = search(seeds=60).assign(**{keys.PHASE: keys.SEARCH})
    return [
        ComparedStudy("sweep", "spirals", "mlp", sweep(), sizes, Analysis()),
        ComparedStudy("map", "digits", "mlp", one, plain, Analysis()),
    ]


def test_a_row_a_study_and_setting() -> None:
    rows = across(tables())
    assert [row.label for row in rows] == [*(f"sweep, width {w}" for w in WIDTHS), "map"]
    assert all(not row.fresh for row in rows)
    assert [row.n for row in rows] == [30] * 5, "half of the seeds chose"
    assert rows[-1].gain == pytest.approx(0.2, abs=0.03)
    assert rows[-1].outcome == "better_within_margin"
    assert rows[-1].verdict == "better, but by less than the margin"
    assert rows[0].parameters_per_sample == pytest.approx(0.21)
    assert rows[-1].parameters_per_sample is None
    assert len(across_table(rows)) == 5


def test_a_loss_that_falls_is_a_gain() -> None:
    (study, _) = tables()
    members = study.members.assign(**{keys.VALIDATION_LOSS: -study.members[keys.TRAIN_ACCURACY]})
    question = Question(keys.VALIDATION_LOSS, {}, scientific=(WIDTH,))
    (row, *_) = across([ComparedStudy("a", "b", "c", members, question, Analysis())])
    assert row.gain == pytest.approx(0.2, abs=0.02)
    assert row.outcome == "better"


def test_the_figure_has_a_row_per_setting_and_sizes_where_known() -> None:
    rows = across(tables())
    forest, size = draw_across(rows).axes
    assert [label.get_text() for label in forest.get_yticklabels()] == [r.label for r in rows]
    assert forest.get_xlabel() == "gain in validation accuracy"
    assert size.get_xlabel() == "parameters per training sample"
    assert size.get_xscale() == "log"
    assert np.isfinite(forest.get_xlim()).all()
    assert len(draw_across(rows[-1:]).axes) == 1, "no size is known"


def test_survivors_of_a_loss_decide_nothing() -> None:
    (study, _) = tables()
    members = study.members.assign(**{keys.VALIDATION_LOSS: -study.members[keys.TRAIN_ACCURACY]})
    lost = (members[keys.ARM] == keys.DYNAMICAL) & (members[keys.SEED] == 1)
    phase = members.assign(**{keys.PHASE: "confirm", keys.TEST_LOSS: members[keys.VALIDATION_LOSS]})
    phase = phase[phase[keys.TRIAL] % 2 == 1]
    phase.loc[lost, [keys.DIVERGED, keys.TEST_LOSS, keys.TRAIN_ACCURACY]] = [True, np.nan, np.nan]
    one = sweep_of(members, phase, WIDTH, keys.VALIDATION_LOSS, margin=0.5)
    assert one is not None
    (found,) = regimes([one])
    for size in found.sizes:
        train, loss = size.gains
        assert loss.decision.outcome == "undecided"
        assert not loss.wins
        assert train.decision.margin is None, "the margin is in the unit of a loss"
