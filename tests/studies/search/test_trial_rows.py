"""What is written straight into Optuna's database is what Optuna would have written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from studies.search.trial_rows import KeptTrial, rows_of

DISTRIBUTIONS = {
    "period": IntDistribution(2, 5000, log=True),
    "learning_rate": FloatDistribution(1e-3, 10.0, log=True),
    "model.width": CategoricalDistribution((20, 50, "wide")),
}


class Store:
    """A storage with two studies, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        self.studies = [
            optuna.create_study(study_name=name, storage=self.storage)
            for name in ("tiny/static", "tiny/dynamical")
        ]

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table."""
        with closing(sqlite3.connect(self.path)) as database:
            asked = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'studies'"
            tables = [name for (name,) in database.execute(asked)]
            return {
                table: sorted(map(repr, database.execute(f"SELECT * FROM {table}")))  # type: ignore[misc]
                for table in tables
            }


def trial(
    state: TrialState,
    value: float,
    attributes: dict[str, Any],
    rungs: dict[int, float],
    period: int,
) -> FrozenTrial:
    params = {"period": period, "learning_rate": 0.1 * period, "model.width": "wide"}
    return optuna.trial.create_trial(
        state=state,
        value=None if state == TrialState.FAIL else value,
        params={} if period == 2 else params,
        distributions={} if period == 2 else DISTRIBUTIONS,
        user_attrs=attributes,
        intermediate_values=rungs,
    )


numbers = st.floats(allow_nan=False, width=32)
trials = st.builds(
    trial,
    st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]),
    numbers,
    st.dictionaries(
        st.sampled_from(["values", "error"]), st.lists(st.floats(0, 1)) | st.text(max_size=9)
    ),
    st.dictionaries(st.integers(0, 9), st.floats(width=32), max_size=3),
    st.integers(2, 90),
)
blocks = st.lists(st.tuples(st.integers(0, 1), st.lists(trials, max_size=3)), max_size=4)


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks=blocks)
def test_every_row_is_optunas(
    blocks: list[tuple[int, list[FrozenTrial]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    theirs, ours = (Store(folder / f"{name}.db") for name in ("theirs", "ours"))
    for which, ended in blocks:
        theirs.studies[which].add_trials(ended)
        rows = rows_of(ours.storage, ours.studies[which].study_name)
        assert rows is not None
        rows.add(ended)
    assert ours.rows() == theirs.rows()
    for mine, other in zip(ours.studies, theirs.studies, strict=True):
        found, expected = (study.get_trials() for study in (mine, other))
        assert [each.number for each in found] == list(range(len(found)))
        assert len(found) == len(expected)
        for one, two in zip(found, expected, strict=True):
            assert (one.state, one.params, one.datetime_start) == (
                *(two.state, two.params, two.datetime_start),
            )
        rows = rows_of(theirs.storage, other.study_name)
        assert rows is not None
        assert rows.kept() == [
            KeptTrial(each.state.is_finished(), each.params) for each in expected
        ]


def test_a_trial_that_never_ended_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "optuna.db")
    store.studies[0].add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
    rows = rows_of(store.storage, "tiny/static")
    assert rows is not None
    assert [each.is_finished for each in rows.kept()] == [False]


def test_all_of_a_block_or_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "optuna.db")
    rows = rows_of(store.storage, "tiny/static")
    assert rows is not None
    good = trial(TrialState.COMPLETE, 0.5, {}, {}, 7)
    bad = trial(TrialState.COMPLETE, 0.5, {"values": object()}, {}, 7)
    before = store.rows()
    with pytest.raises(TypeError):
        rows.add([good, bad])
    assert store.rows() == before
    rows.add([good])
    assert [each.params for each in store.studies[0].get_trials()] == [good.params]


def test_any_other_storage_is_left_to_optuna(tmp_path: Path) -> None:
    assert rows_of(optuna.storages.InMemoryStorage(), "tiny/static") is None
    store = Store(tmp_path / "optuna.db")
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("ALTER TABLE trials ADD COLUMN colour TEXT")
    assert rows_of(store.storage, "tiny/static") is None
