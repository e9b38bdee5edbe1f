"""Looks: whoever adds to a study has seen what it showed, and every search counts in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core import keys
from studies.analysis.analyses import analyse
from studies.analysis.looks import Look, looks_of, name_of_look, seen, with_present
from studies.analysis.study_analysis import Analysis
from studies.analysis.study_tables import Tables
from studies.definition.phases import Phase
from studies.report.study_question import question_of
from studies.runner.run_study import confirm_study, run_study
from studies.storage.stored_study import StoredStudy
from tests.studies.sessions import run_without_ray
from tests.studies.tiny import tiny_study

WINNERS = {keys.DYNAMICAL: 1, keys.STATIC: 2}


def networks(look: Sequence[int], *, other: Sequence[tuple[int, int]] = ()) -> pd.DataFrame:
    """Two fresh networks of each arm in each round of each search; in some, as (search, round), of
    another static winner."""
    rows = [
        {
            keys.PHASE: str(Phase(keys.CONFIRM, number, search)),
            keys.ARM: arm,
            keys.TRIAL: trial + (arm == keys.STATIC and (search, number) in other),
            keys.SEED: 100 * search + 10 * number + seed,
        }
        for search, rounds in enumerate(look, start=1)
        for number in range(1, rounds + 1)
        for arm, trial in WINNERS.items()
        for seed in range(2)
    ]
    searched = [
        {keys.PHASE: str(Phase(keys.SEARCH, 1, n)), keys.ARM: arm, keys.TRIAL: 0, keys.SEED: 0}
        for n in range(1, len(look) + 1)
        for arm in WINNERS
    ]
    return pd.DataFrame(searched + rows)


@pytest.mark.parametrize(
    ("now", "recorded", "looks"),
    [
        ((0, 0), [], []),
        ((1,), [], [(1,)]),
        ((3,), [], [(1,), (2,), (3,)]),
        ((2, 2), [], [(1, 1), (2, 2)]),
        ((1, 1, 1), [(1, 1)], [(1, 1), (1, 1, 1)]),
        ((2, 2, 2), [(1, 1), (2, 2), (2, 2, 1)], [(1, 1), (2, 2), (2, 2, 1), (2, 2, 2)]),
        ((2, 1), [(1, 1)], [(1, 1), (2, 1)]),
        ((1, 1), [(0, 0), (1, 1)], [(1, 1)]),  # nothing has come of what was to be added
        ((1, 1, 0), [(1, 1)], [(1, 1)]),
        ((1, 0, 1), [], [(1, 0, 1)]),
    ],
)
def test_looks_in_their_order(now: Look, recorded: list[Look], looks: list[Look]) -> None:
    assert looks_of(networks(now), recorded) == tuple(looks)
    assert with_present(now, recorded) == tuple(looks)


def test_a_round_counts_once_it_has_all_winners() -> None:
    """Until then its search stands with its earlier rounds, and for good if a block failed."""
    whole = networks((2, 2))
    lost = (whole[keys.PHASE] == "confirm-2.2") & (whole[keys.ARM] == keys.STATIC)
    some = whole[~lost]
    assert looks_of(some) == ((1, 1), (2, 1))
    assert looks_of(some, [(1, 1), (2, 2)]) == ((1, 1), (2, 1)), "whatever was planned"
    found = seen((2, 1), some)
    assert set(found[keys.PHASE]) == {"confirm", "confirm-2", "confirm.2"}
    assert not found.duplicated([keys.PHASE, keys.ARM, keys.SEED]).any()


def test_their_names_tell_them_apart() -> None:
    looks = [(1, 1), (2, 2), (2, 2, 1), (2, 2, 2)]
    names = [name_of_look(number, looks) for number in range(1, 5)]
    assert names == ["confirm", "confirm-2, 2 searches", "confirm-2, look 3", "confirm-2, look 4"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_each_search_gives_its_latest_winners_of_all_rounds_so_far(
    rounds: list[int], data: st.DataObject
) -> None:
    every = [(s, k) for s, own in enumerate(rounds, start=1) for k in range(1, own + 1)]
    other = data.draw(st.lists(st.sampled_from(every), unique=True))
    look = tuple(data.draw(st.integers(0, own)) for own in rounds)
    found = seen(look, networks(rounds, other=other))
    expected = set()
    for search, last in enumerate(look, start=1):
        for number in range(1, last + 1):
            if ((search, number) in other) == ((search, last) in other):
                expected.add(str(Phase(keys.CONFIRM, number, search)))
    assert set(found[keys.PHASE]) == expected
    assert len(found) == 4 * len(expected)


@pytest.mark.slow
def test_whatever_is_added_is_a_further_look_at_all_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confirmed again, searched again, and confirmed where that lacked a round."""
    run_without_ray(monkeypatch)
    study = tiny_study(searches=2, trials_per_arm=2, confirm_seeds=2)

    def analysis() -> Analysis:
        return outcome.results.analysis

    def seen_so_far() -> tuple[int, int, float]:
        (verdict,) = analysis().verdicts
        return verdict.look, verdict.test.n, round(1 - verdict.test.level, 4)

    outcome = run_study(study, tmp_path)
    assert seen_so_far() == (1, 2, 0.05)
    outcome = confirm_study(outcome.folder, seeds=2)
    assert seen_so_far() == (2, 2, 0.025)
    outcome = run_study(study, tmp_path, more_searches=1)
    assert seen_so_far() == (3, 3, round(0.05 / 6, 4))
    earlier = [line for line in analysis().findings() if line.startswith("Earlier look")]
    assert [line.split(".")[0] for line in earlier] == [
        "Earlier look (confirm)",
        "Earlier look (confirm-2, 2 searches)",
    ]
    assert all("n = 2 searches" in line for line in earlier), "as they were seen"
    outcome = confirm_study(outcome.folder, seeds=2)
    assert seen_so_far() == (4, 3, round(0.05 / 12, 4))
    assert StoredStudy.read(outcome.folder).looks == ((1, 1), (2, 2), (2, 2, 1))


def test_a_study_of_before_counts_its_rounds() -> None:
    """Folders that were written before looks were recorded."""
    study = tiny_study(searches=2)
    members = networks((2, 2)).assign(
        **dict.fromkeys((keys.VALIDATION_ACCURACY, keys.TEST_ACCURACY, keys.TRAIN_ACCURACY), 0.5),
        **{keys.DIVERGED: False, keys.PERIOD: 5.0, keys.AMPLITUDE: 2.0, keys.LEARNING_RATE: 1.0},
    )
    question = replace(question_of(study, members), looks=())
    (verdict,) = analyse(members, pd.DataFrame(), question).verdicts
    assert verdict.look == 2


def test_a_round_without_the_matched_arm_is_judged_by_earlier_ones() -> None:
    """Else a gain at the arm's own settings would be claimed unasked, of a block that failed."""
    study = tiny_study()
    matched = networks((1,)).query("arm == 'static' and phase == 'confirm'")
    members = pd.concat([networks((2,)), matched.assign(**{keys.ARM: "static_at_dynamical"})])
    tables = Tables.of(members, pd.DataFrame(), question_of(study, members), {})
    (of_pair,) = tables.of_pairs
    assert of_pair.matched is not None
    assert list(of_pair.matched.looks) == list(of_pair.looks) == ["confirm", "confirm-2"]
    assert set(of_pair.matched.looks["confirm-2"][keys.PHASE]) == {"confirm"}
