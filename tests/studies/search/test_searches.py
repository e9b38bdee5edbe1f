"""Searching again: each search is the study with another seed, and the verdict is about them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.analysis.analyses import analyse
from studies.analysis.statistics.search_variance import search_variance
from studies.analysis.study_analysis import Analysis
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.report.study_question import question_of
from studies.report.study_results import write_results
from studies.runner.extension import searched_again
from studies.storage.status import study_status
from studies.storage.stored_study import StoredStudy
from tests.studies.sessions import finish, session_of, train_next
from tests.studies.tables import comparable
from tests.studies.tiny import CONFIRM, MAP, tiny_study

DIGITS: dict[str, Any] = {
    "data": {"name": "digits", "split_seed": 3},
    "space": "digits-mlp",
    "trials_per_arm": 2,
}


def trained(study: Study, out: Path) -> StoredStudy:
    session = session_of(study, out)
    finish(session)
    session.delivery.close()
    return session.stored


def search_rows(members: pd.DataFrame, number: int) -> pd.DataFrame:
    """The rows of one search, as if there were no other."""
    phases = members[keys.PHASE].map(Phase.parse)
    rows = members[phases.map(lambda phase: phase.search) == number].copy()
    rows[keys.PHASE] = rows[keys.PHASE].map(lambda name: str(Phase.parse(name)._replace(search=1)))
    return comparable(rows)


@pytest.mark.parametrize(
    "name", ["search", "confirm", "finals-2", "confirm-3", "search.2", "confirm-3.12"]
)
def test_a_phase_is_its_name(name: str) -> None:
    assert str(Phase.parse(name)) == name


@pytest.mark.parametrize("name", ["", "train", "confirm-1", "confirm.1", "search-", "confirm.2-3"])
def test_other_names_are_no_phases(name: str) -> None:
    with pytest.raises(ValueError, match="names no phase"):
        Phase.parse(name)


@pytest.mark.slow
def test_each_search_is_the_study_with_another_seed(tmp_path: Path) -> None:
    stored = trained(tiny_study(searches=3, seed=4), tmp_path)
    members = stored.folder.parts.gather("members")
    assert len(members) == stored.study.members()
    for number in (1, 2, 3):
        alone = trained(tiny_study(seed=3 + number), tmp_path / str(number))
        expected = comparable(alone.folder.parts.gather("members"))
        pd.testing.assert_frame_equal(search_rows(members, number), expected)
    seeds = [set(rows[keys.SEED]) for _, rows in members.groupby(keys.PHASE)]
    assert len(set.union(*seeds)) == sum(map(len, seeds)), "no seed is in two phases"


def test_with_one_split_each_search_has_another_validation_set() -> None:
    study = tiny_study(**DIGITS, searches=2)
    first, second = (study.search(number).data.load(0) for number in (1, 2))
    assert study.search(1).data == study.data
    assert np.array_equal(first.test.inputs, second.test.inputs)
    assert not np.array_equal(first.validation.inputs, second.validation.inputs)
    both = [set(map(tuple, s.validation.inputs.flatten(1).tolist())) for s in (first, second)]
    tested = set(map(tuple, first.test.inputs.flatten(1).tolist()))
    assert not tested & set.union(*both)


@pytest.mark.slow
def test_searches_that_are_added_are_those_of_the_longer_study(tmp_path: Path) -> None:
    stored = trained(tiny_study(), tmp_path / "extended")
    before = {p.name: p.stat().st_mtime_ns for p in stored.folder.parts.files("members")}
    longer = searched_again(stored, 2)
    assert longer.study.searches == 3
    session = session_of(longer.study, tmp_path / "extended")
    assert session.stored.study.searches == 3
    blocks = finish(session)
    session.delivery.close()
    assert {Phase.parse(block.phase).search for block in blocks} == {2, 3}
    parts = longer.folder.parts
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in parts.files("members")}.items()
    whole = trained(tiny_study(searches=3), tmp_path / "whole")
    pd.testing.assert_frame_equal(
        comparable(parts.gather("members")), comparable(whole.folder.parts.gather("members"))
    )


def test_an_interrupted_one_goes_on_as_it_would_have(tmp_path: Path) -> None:
    study = tiny_study(searches=2, finalists=2, finalist_seeds=2, refine=2)
    whole = comparable(trained(study, tmp_path / "whole").folder.parts.gather("members"))
    for blocks in (3, 9, 5):  # the driver is killed after so many
        session = session_of(study, tmp_path / "killed")
        for _ in range(blocks):
            train_next(session)
    last = trained(study, tmp_path / "killed")
    pd.testing.assert_frame_equal(comparable(last.folder.parts.gather("members")), whole)
    assert len(whole) == study.members()


def test_the_status_lists_every_search(tmp_path: Path) -> None:
    study = tiny_study(searches=2, finalists=2)
    stored = trained(study, tmp_path)
    status = study_status(stored.folder)
    phases = list(dict.fromkeys(each.phase for each in status.phases))
    assert phases == ["search", "finals", "confirm", "search.2", "finals.2", "confirm.2"]
    assert all(each.done == each.wanted for each in status.phases)
    assert status.trained == status.networks


@pytest.mark.parametrize("key", ["searches", "refine", "finalists"])
def test_given_points_are_not_searched(key: str) -> None:
    point = {"learning_rate": 1.0, "period": 10, "amplitude": 3.0}
    given = {"dynamical": point, "static": {"learning_rate": 1.0}}
    with pytest.raises(ConfigError, match="nothing is searched there"):
        tiny_study(**CONFIRM, winners=given, **{key: 2})


def found(members: pd.DataFrame, study: Study) -> Analysis:
    return analyse(members, pd.DataFrame(), question_of(study, members))


def test_the_verdict_is_a_test_of_searches(tmp_path: Path) -> None:
    study = tiny_study(searches=4, equivalence_margin=0.1)
    members = trained(study, tmp_path).folder.parts.gather("members")
    (verdict,) = found(members, study).verdicts
    means = []
    for number in range(1, 5):
        name = "confirm" if number == 1 else f"confirm.{number}"
        rows = members[members[keys.PHASE] == name]
        by_arm = rows.groupby(keys.ARM)[keys.TEST_ACCURACY].mean()
        means.append(by_arm["dynamical"] - by_arm["static"])
    expected = stats.ttest_1samp(means, 0)
    low, high = expected.confidence_interval(0.95)
    test = verdict.test
    assert (test.n, test.difference) == (4, pytest.approx(np.mean(means)))
    assert (test.low, test.high) == (pytest.approx(low), pytest.approx(high))
    assert test.p_t == pytest.approx(expected.pvalue)
    assert test.luck is not None
    assert test.luck.differences == pytest.approx(means)
    assert "n = 4 searches of 3 fresh seeds each" in verdict.sentence()
    assert test.failures is not None
    assert test.failures.n == 4 * 3, "networks fail, not searches"


def test_of_one_search_it_is_about_two_winners(tmp_path: Path) -> None:
    study = tiny_study()
    stored = trained(study, tmp_path)
    (verdict,) = found(stored.folder.parts.gather("members"), study).verdicts
    assert verdict.test.luck is None
    assert "n = 3 fresh seeds of these two winners" in verdict.sentence()


@pytest.mark.slow
def test_searches_by_table_figure_and_page(tmp_path: Path) -> None:
    stored = trained(tiny_study(searches=2), tmp_path)
    results = write_results(stored)
    table = pd.read_csv(stored.folder.tables / "searches.csv")
    assert list(table["search"]) == [1, 2]
    assert {"difference", "low", "high", "arm_period", "reference_learning_rate"} <= set(table)
    assert any(path.stem == "searches" for path in results.figures)
    page = stored.folder.report.read_text()
    assert "Search by search" in page
    assert "between searches the difference has a standard deviation" in page


@pytest.mark.parametrize("sizes", [(5, 5, 5), (3, 8, 6, 4)])
def test_the_spread_has_two_parts(sizes: tuple[int, ...]) -> None:
    draws = np.random.default_rng(1)
    groups = [
        draws.normal(place, 0.1, n) for place, n in zip(draws.normal(0, 1, 9), sizes, strict=False)
    ]
    result = search_variance(groups)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (sum(sizes) - len(sizes))
    assert result.of_seeds == pytest.approx(np.sqrt(within))
    if len(set(sizes)) == 1:  # the textbook's mean squares
        between = sizes[0] * np.var([g.mean() for g in groups], ddof=1)
        f = stats.f_oneway(*groups).statistic
        assert between / within == pytest.approx(f)
        assert result.of_search**2 == pytest.approx((between - within) / sizes[0])


def test_the_parts_are_right_on_average() -> None:
    draws, of_search, of_seeds = np.random.default_rng(2), 0.02, 0.05
    found = []
    for _ in range(400):
        places = draws.normal(0, of_search, 6)
        found.append(search_variance([draws.normal(place, of_seeds, 8) for place in places]))
    assert np.mean([each.of_seeds**2 for each in found]) == pytest.approx(of_seeds**2, rel=0.05)  # type: ignore[operator]
    means = [np.var(each.differences, ddof=1) - of_seeds**2 / 8 for each in found]
    assert np.mean(means) == pytest.approx(of_search**2, rel=0.15)


def test_seeds_alone_leave_nothing_to_the_search() -> None:
    same = np.array([0.1, -0.1, 0.3, -0.3])
    assert search_variance([same, same]).of_search == 0
    assert search_variance([np.array([0.1]), np.array([0.3])]).of_seeds is None
    with pytest.raises(ValueError, match="at least two"):
        search_variance([same])


def test_a_map_is_searched_again_too(tmp_path: Path) -> None:
    width = {"type": "choice", "values": [4, 6], "role": "scientific"}
    space = {
        "extends": "spirals-mlp",
        "name": "sized",
        "parameters": {"model.width": width},
        "points": [],
    }
    study = tiny_study(
        **{**MAP, "trials_per_arm": 4},
        sampler="sobol",
        space=space,
        searches=2,
        refine=2,
        finalists=2,
    )
    stored = trained(study, tmp_path)
    members = stored.folder.parts.gather("members")
    assert len(members) == study.members()
    refined = members[(members[keys.PHASE] == "search") & (members[keys.TRIAL] >= 4)]
    assert (refined.groupby([keys.ARM, "model.width"])[keys.TRIAL].nunique() == 2).all()
    finals = members[members[keys.PHASE] == "finals.2"]
    assert finals[keys.TEST_ACCURACY].isna().all(), "finals choose, and see no test set"
    assert finals.groupby([keys.ARM, "model.width"])[keys.TRIAL].nunique().max() == 2
