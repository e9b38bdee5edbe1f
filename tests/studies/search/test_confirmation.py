"""Rounds of confirmation: planned from a search, trained on fresh seeds, judged, resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.definition.confirm_seeds import MAX_CONFIRM_SEEDS, MIN_CONFIRM_SEEDS
from studies.definition.study import Study
from studies.report.study_results import write_results
from studies.runner.rounds import next_rounds
from studies.search.confirmation import plan_confirmation
from studies.storage.status import study_status
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.studies.sessions import finish, next_block, session_of, statuses, tracker_of, train
from tests.studies.tiny import MAP, tiny_study

MATCHED = "static_at_dynamical"


@pytest.fixture
def sweep() -> Study:
    space = {
        "extends": "spirals-mlp",
        "name": "sweep-space",
        "parameters": {
            "model.width": {"type": "choice", "values": [4, 6], "role": "scientific"},
            "period": {"type": "const", "value": 5, "unit": "steps", "role": "fixed"},
            "amplitude": {"type": "choice", "values": [5.0, 20.0]},
            "learning_rate": {"low": 0.3, "high": 3.0},
        },
        "points": [],
    }
    own = {"grid": {"learning_rate": 2}, "seeds_per_point": 4, "block_size": 3}
    return tiny_study(**MAP, **own, space=space, equivalence_margin=0.02)


def searched(folder: StudyFolder) -> pd.DataFrame:
    members = folder.parts.gather("members")
    return members[members[keys.PHASE] == keys.SEARCH]


def test_one_winner_an_arm_and_scientific_setting(sweep: Study, tmp_path: Path) -> None:
    session = session_of(sweep, tmp_path)
    finish(session)
    search = searched(session.folder)
    round_ = plan_confirmation(sweep, search, number=1, used=0, seeds=5)
    assert [(w.arm, w.point["model.width"]) for w in round_.winners] == [
        (keys.DYNAMICAL, 4), (keys.STATIC, 4), (keys.DYNAMICAL, 6), (keys.STATIC, 6),
        (MATCHED, 4), (MATCHED, 6),
    ]  # fmt: skip
    for winner in round_.winners[:4]:
        mine = search[(search[keys.ARM] == winner.arm)]
        same = mine[mine["model.width"] == winner.point["model.width"]]
        means = same.groupby(keys.TRIAL)[keys.VALIDATION_ACCURACY].mean()
        assert winner.objective == means.max()
        row = mine[mine[keys.TRIAL] == winner.trial].iloc[0]
        assert row[keys.LEARNING_RATE] == winner.point[keys.LEARNING_RATE]
    assert not set(round_.seeds) & set(search[keys.SEED])
    assert (round_.phase, len(round_.seeds)) == ("confirm", 5)


def test_trained_judged_and_gone_on_with(sweep: Study, tmp_path: Path) -> None:
    first = session_of(sweep, tmp_path)
    finish(first)
    first.stored.with_round(plan_confirmation(sweep, searched(first.folder), 1, 0, seeds=5))
    begun = session_of(sweep, tmp_path)
    block = next_block(begun)
    assert (block.phase, block.members) == ("confirm", 5)
    train(begun, block)  # and then the driver is killed
    second = session_of(sweep, tmp_path)
    finish(second)
    members = second.folder.parts.gather("members")
    confirm = members[members[keys.PHASE] == "confirm"]
    assert len(confirm) == 6 * 5
    assert confirm[keys.TEST_ACCURACY].notna().all()
    analysis = write_results(second.stored).analysis
    assert [each.label for each in analysis.verdicts] == ["width 4", "width 6"]
    assert [each.test.n for each in analysis.verdicts] == [5, 5]
    assert all(each.test.margin == 0.02 for each in analysis.verdicts)
    assert analysis.regimes["model.width"].fresh
    runs = statuses(tmp_path, tracker_of(second).parent)
    assert sum(name.startswith("confirm/") for name in runs) == 6
    assert set(runs.values()) == {"FINISHED"}


@pytest.mark.slow
def test_a_second_round_has_seeds_and_a_name_of_its_own(sweep: Study, tmp_path: Path) -> None:
    session = session_of(sweep, tmp_path)
    finish(session)
    search = searched(session.folder)
    one = plan_confirmation(sweep, search, 1, 0, seeds=5)
    two = plan_confirmation(sweep, search, 2, 5, seeds=7)
    assert not set(one.seeds) & set(two.seeds)
    session.stored.with_round(two).with_round(one)
    assert StoredStudy.read(session.folder).rounds == (one, two)
    later = session_of(sweep, tmp_path)
    finish(later)
    assert write_results(later.stored).analysis.look == "confirm-2"
    with pytest.raises(ConfigError, match="are not left"):
        plan_confirmation(sweep, search, 3, 12, seeds=60_000)


def table(gain: float, sd: float, study: Study, seeds: int = 40) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    rows = []
    for arm, shift in ((keys.DYNAMICAL, gain), (keys.STATIC, 0.0)):
        for trial, width in enumerate((4, 6)):
            values = 0.6 + shift + draws.normal(0, sd / np.sqrt(2), seeds)
            rows += [
                {
                    keys.ARM: arm, keys.TRIAL: trial, keys.SEED: seed, "model.width": width,
                    keys.AMPLITUDE: 5.0, keys.LEARNING_RATE: 0.3, keys.DIVERGED: False,
                    study.objective: value,
                }
                for seed, value in enumerate(values)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def test_seeds_follow_from_the_power_analysis(sweep: Study) -> None:
    clear = plan_confirmation(sweep, table(0.2, 0.05, sweep), 1, 0)
    assert len(clear.seeds) == MIN_CONFIRM_SEEDS
    assert "enough for 90% power in 2 of 2 comparisons" in clear.reason
    smaller = plan_confirmation(sweep, table(0.04, 0.08, sweep), 1, 0)
    assert MIN_CONFIRM_SEEDS < len(smaller.seeds) < MAX_CONFIRM_SEEDS
    hopeless = plan_confirmation(sweep, table(0.02, 0.3, sweep), 1, 0)
    assert len(hopeless.seeds) == MAX_CONFIRM_SEEDS
    assert "in 2 of 2" not in hopeless.reason


def test_a_setting_without_a_sound_trial_is_left_out_and_said(sweep: Study) -> None:
    search = table(0.2, 0.05, sweep)
    lost = (search["model.width"] == 6) & (search[keys.ARM] == keys.STATIC)
    search.loc[lost, keys.DIVERGED] = True
    round_ = plan_confirmation(sweep, search, 1, 0)
    assert [(w.arm, w.point["model.width"]) for w in round_.winners] == [
        (keys.DYNAMICAL, 4),
        (keys.STATIC, 4),
        (MATCHED, 4),
    ]
    assert "left out" in round_.reason
    with pytest.raises(ConfigError, match="at every setting, some arm has no trial"):
        plan_confirmation(sweep, search.assign(**{keys.DIVERGED: True}), 1, 0)


@pytest.mark.slow
def test_interrupted_between_settings_it_is_analysed_with_what_is_there(
    sweep: Study, tmp_path: Path
) -> None:
    session = session_of(sweep, tmp_path)
    finish(session)
    session.stored.with_round(plan_confirmation(sweep, searched(session.folder), 1, 0, 4))
    later = session_of(sweep, tmp_path)
    for expected in (0, 1, 1, 2, 2, 2):  # verdicts after each block: arms side by side, then third
        block = next_block(later)
        train(later, block)
        analysis = write_results(later.stored).analysis
        assert len(analysis.verdicts) == expected
    assert "% of its networks" in str(study_status(later.folder))
    assert "100% of its networks" in str(study_status(later.folder))


@pytest.mark.slow
def test_an_earlier_round_is_reported_beside_the_latest(sweep: Study, tmp_path: Path) -> None:
    session = session_of(sweep, tmp_path)
    finish(session)
    search, stored = searched(session.folder), session.stored
    for number, used in ((1, 0), (2, 4)):
        stored = stored.with_round(plan_confirmation(sweep, search, number, used, seeds=4))
    later = session_of(sweep, tmp_path)
    finish(later)
    findings = write_results(later.stored).analysis.findings()
    assert sum("At width" in each for each in findings) == 4
    assert sum(each.startswith("Earlier look (confirm). At width") for each in findings) == 2
    assert "over 2 settings" in findings[0]


@pytest.mark.parametrize(
    ("needed", "planned", "why"),
    [
        (80, 80 - 3, "by the fresh seeds so far"),
        (5, MIN_CONFIRM_SEEDS, "by the fresh seeds so far"),
        (1_000, MAX_CONFIRM_SEEDS, "by the fresh seeds so far"),
        (None, None, "of the search"),
    ],
)
def test_a_further_round_follows_from_what_the_last_one_left_undecided(
    needed: int | None, planned: int | None, why: str, tmp_path: Path
) -> None:
    session = session_of(tiny_study(), tmp_path)
    finish(session)
    session.delivery.close()
    stored = StoredStudy.read(session.folder)
    write_results(stored)
    summary = json.loads(stored.folder.summary.read_text())
    summary["verdicts"][0]["test"] |= {"outcome": "undecided", "n": 3, "seeds_needed": needed}
    stored.folder.summary.write_text(json.dumps(summary))
    (following,) = next_rounds(stored, None)
    assert planned in (None, len(following.seeds))
    assert why in following.reason
    (asked,) = next_rounds(stored, 7)
    assert (len(asked.seeds), asked.reason) == (7, "as asked")
    with pytest.raises(ConfigError, match="0 give no pairs"):
        next_rounds(stored, 0)
    summary["look"] = [2]
    stored.folder.summary.write_text(json.dumps(summary))
    (of_search,) = next_rounds(stored, None)
    assert "by the fresh seeds" not in of_search.reason, "it is about another look"
