"""The third arm: better is claimed only where the reference is beaten at both settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.analysis.analyses import analyse
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.statistics.evidence import evidence_of
from studies.analysis.statistics.judge import differ_from_both
from studies.definition.arms import Pair
from studies.definition.study import Study
from studies.report.study_question import question_of
from tests.studies.analysis.hall import p_that_decides
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import CONFIRM, tiny_study

MATCHED = "static_at_dynamical"
SEEDS = 30
PAIR = Pair("arm", "other")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, pd.DataFrame]:
    study = tiny_study(confirm_seeds=SEEDS, equivalence_margin=0.02)
    session = session_of(study, tmp_path_factory.mktemp("matched"))
    finish(session)
    session.delivery.close()
    return study, session.folder.parts.gather("members")


def verdict(
    trained: tuple[Study, pd.DataFrame],
    gain: float,
    matched: float | None,
    lacks: Sequence[int] = (),
) -> tuple[SettingVerdict, dict[str, np.ndarray]]:
    """The verdict where the arm gains so much over the reference, which at the arm's settings is so
    much better than at its own, where it lacks some of the seeds."""
    study, members = trained
    draws, members = np.random.default_rng(3), members.copy()
    values = {keys.STATIC: 0.7 + draws.normal(0, 0.01, SEEDS)}
    values[keys.DYNAMICAL] = values[keys.STATIC] + gain + draws.normal(0, 0.01, SEEDS)
    values[MATCHED] = values[keys.STATIC] + (matched or 0) + draws.normal(0, 0.01, SEEDS)
    for arm, accuracies in values.items():
        rows = (members[keys.ARM] == arm) & (members[keys.PHASE] == keys.CONFIRM)
        members.loc[rows, keys.TEST_ACCURACY] = accuracies
    if matched is None:
        members = members[members[keys.ARM] != MATCHED]
    fresh = members[keys.PHASE] == keys.CONFIRM
    seeds = sorted(members.loc[fresh, keys.SEED].unique())
    lost = (
        fresh & (members[keys.ARM] == MATCHED) & members[keys.SEED].isin([seeds[i] for i in lacks])
    )
    members = members[~lost]
    (found,) = analyse(members, pd.DataFrame(), question_of(study, members)).verdicts
    return found, values


def test_it_is_trained_at_the_winners_settings_on_the_same_seeds(
    trained: tuple[Study, pd.DataFrame],
) -> None:
    study, members = trained
    fresh = members[members[keys.PHASE] == keys.CONFIRM].set_index(keys.ARM)
    assert set(fresh.index) == {*study.arms, MATCHED}
    own, third = fresh.loc[keys.DYNAMICAL], fresh.loc[MATCHED]
    assert set(own[keys.LEARNING_RATE]) == set(third[keys.LEARNING_RATE])
    assert set(own[keys.TRIAL]) == set(third[keys.TRIAL])
    assert list(own[keys.SEED]) == list(third[keys.SEED])
    assert (third[keys.AMPLITUDE] == 1).all()
    assert third[keys.TEST_ACCURACY].notna().all()


def test_a_gain_must_show_against_both(trained: tuple[Study, pd.DataFrame]) -> None:
    beaten, values = verdict(trained, gain=0.08, matched=0.02)
    arm = values[keys.DYNAMICAL]
    both = [p_that_decides(arm - values[other]) for other in (keys.STATIC, MATCHED)]
    assert beaten.test.outcome == "better"
    assert beaten.p_adjusted == pytest.approx(max(both))
    assert "against static at the settings of dynamical +0.0" in beaten.sentence()


def test_no_gain_is_claimed_while_the_third_arm_is_missing(
    trained: tuple[Study, pd.DataFrame],
) -> None:
    missing, _ = verdict(trained, gain=0.08, matched=None)
    assert (missing.test.outcome, missing.test.seeds_needed) == ("undecided", None)
    assert "static was not trained at the settings of dynamical" in missing.warnings[0]
    lost, _ = verdict(trained, gain=-0.08, matched=None)
    assert lost.test.outcome == "worse", "it only bars a gain"


@pytest.mark.parametrize("lacks", [[0], list(range(SEEDS // 2)), list(range(SEEDS - 1))])
def test_nor_while_some_of_its_networks_are(
    trained: tuple[Study, pd.DataFrame], lacks: list[int]
) -> None:
    """Those that are there do not speak for the others."""
    partly, _ = verdict(trained, gain=0.08, matched=0.02, lacks=lacks)
    assert (partly.test.outcome, partly.test.seeds_needed) == ("undecided", None)
    assert "on all of these seeds, so that no gain is claimed" in partly.warnings[0]


def test_an_arm_that_has_no_third_one_needs_none(trained: tuple[Study, pd.DataFrame]) -> None:
    study, members = trained
    question = replace(question_of(study, members), matched=())
    rows = (members[keys.ARM] == keys.DYNAMICAL) & (members[keys.PHASE] == keys.CONFIRM)
    raised = members.copy()
    raised[keys.TEST_ACCURACY] = 0.7 + np.random.default_rng(3).normal(0, 0.01, len(raised))
    raised.loc[rows, keys.TEST_ACCURACY] += 0.08
    (found,) = analyse(raised[raised[keys.ARM] != MATCHED], pd.DataFrame(), question).verdicts
    assert found.test.outcome == "better"


def test_the_luck_of_a_search_is_no_gain(trained: tuple[Study, pd.DataFrame]) -> None:
    """The static loss is as good at the dynamical winner's learning rate: its own was missed."""
    found, _ = verdict(trained, gain=0.08, matched=0.08)
    assert found.test.outcome == "undecided"
    assert found.test.low > 0, "the interval is that of the two winners"
    assert found.test.seeds_needed is None
    assert any("its search missed its optimum" in warning for warning in found.warnings)
    worse, _ = verdict(trained, gain=0.08, matched=0.15)
    assert worse.test.outcome == "undecided"
    assert worse.p_adjusted == 1


def test_a_loss_needs_no_second_reference(trained: tuple[Study, pd.DataFrame]) -> None:
    found, values = verdict(trained, gain=-0.08, matched=0.0)
    own = p_that_decides(values[keys.DYNAMICAL] - values[keys.STATIC])
    assert found.test.outcome == "worse"
    assert found.p_adjusted == pytest.approx(own)


def test_names_it_needs_are_refused_and_given_points_have_none() -> None:
    arms = {"static": {"baseline": True}, "a": {}, "static_at_a": {}}
    with pytest.raises(ConfigError, match="the tables' name for static at the settings of a"):
        tiny_study(arms=arms)
    point = {"learning_rate": 1.0, "period": 500, "amplitude": 3.0}
    given = {"dynamical": point, "static": {"learning_rate": 1.0}}
    assert not tiny_study(**CONFIRM, winners=given).matched_arms


def test_of_two_pairs_that_do_not_differ_one_in_forty_is_called_better() -> None:
    """The larger of two p values errs no more often than either."""
    draws, better, repeats = np.random.default_rng(0), 0, 1500
    for _ in range(repeats):
        static = draws.normal(size=20)
        arm, third = (static + draws.normal(size=20) for _ in range(2))
        p = [stats.ttest_rel(arm, other) for other in (static, third)]
        better += all(each.pvalue < 0.05 and each.statistic > 0 for each in p)
    assert stats.binomtest(better, repeats, 0.025, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(
    ("better_by", "failing", "claimed"),
    [
        (0.00, 1, True),  # as good as the reference, wherever it trains
        (0.06, 14, False),  # better than the arm wherever it trains, but often it does not
        (0.06, 50, False),  # the same, of ten networks that train
        (0.00, 50, True),  # hardly ever trains, and is beaten where it does
    ],
)
def test_a_claim_of_networks_that_train_holds_against_those_of_the_third_arm(
    better_by: float, failing: int, claimed: bool
) -> None:
    draws, n = np.random.default_rng(0), 60
    static, arm, third = (mean + draws.normal(0, 0.01, n) for mean in (0.80, 0.83, 0.80))
    third += better_by
    arm[:3] = static[3:6] = 0.1
    third[n - failing :] = 0.1
    both = [
        evidence_of(pd.DataFrame({"arm": arm, "other": other}), PAIR, is_accuracy=True, chance=0.1)
        for other in (static, third)
    ]
    p_of_all, p_of_trained = differ_from_both(*both, higher_is_better=True)
    assert p_of_all > 0.05, "a few that fail hide it"
    assert (p_of_trained < 0.05) == claimed
