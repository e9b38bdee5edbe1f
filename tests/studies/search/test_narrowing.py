"""A narrower space from what past studies found: each arm keeps to where it was best itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.report.trial_table import searched_trials
from studies.search.narrowing import narrowed
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import begun, finish, session_of
from tests.studies.tiny import tiny_study

SPACE = search_spaces.load("spirals-mlp")
ACCURACY = keys.VALIDATION_ACCURACY


def trials(count: int = 40, seed: int = 0) -> pd.DataFrame:
    """Trials of two arms; the dynamical one is best near a rate of 1, the static one near 4."""
    points = SPACE.sample(2 * count, seed)
    rows = pd.DataFrame(points).assign(**{keys.ARM: ["dynamical", "static"] * count})
    static = rows[keys.ARM] == "static"
    rows.loc[static, [keys.PERIOD, keys.AMPLITUDE]] = [0, 1.0]
    optimum = np.where(static, 4.0, 1.0)
    rows[ACCURACY] = 1 - 0.1 * np.abs(np.log(rows[keys.LEARNING_RATE] / optimum))
    return rows


@given(top=st.floats(0.1, 1.0), seed=st.integers(0, 9))
def test_each_arm_keeps_the_range_of_its_own_best(top: float, seed: int) -> None:
    table = trials(seed=seed)
    space = narrowed(SPACE, {"a": table}, ACCURACY, top)
    for arm, kept in (("dynamical", space), ("static", space.static())):
        rows = table[table[keys.ARM] == arm].sort_values(ACCURACY, ascending=False)
        best = rows.head(int(np.ceil(top * len(rows))))[keys.LEARNING_RATE]
        rate = kept.parameters[keys.LEARNING_RATE]
        assert isinstance(rate, search_spaces.FloatParameter)
        assert (rate.low, rate.high) == (best.min(), best.max())
    assert space.static().parameters.keys() == SPACE.static().parameters.keys()


def test_the_best_of_each_study_are_kept() -> None:
    easy, hard = trials(seed=1), trials(seed=2)
    hard[ACCURACY] -= 0.5
    hard[keys.LEARNING_RATE] *= 1.5
    both = narrowed(SPACE, {"easy": easy, "hard": hard}, ACCURACY, 0.2)
    alone = [narrowed(SPACE, {"one": each}, ACCURACY, 0.2) for each in (easy, hard)]
    rates = [each.parameters[keys.LEARNING_RATE] for each in (both, *alone)]
    assert rates[0].low == min(rate.low for rate in rates[1:])  # type: ignore[union-attr]
    assert rates[0].high == max(rate.high for rate in rates[1:])  # type: ignore[union-attr]
    assert "the best 20% of easy, hard (16 dynamical, 16 static)" in both.description


def test_a_metric_of_which_less_is_better_is_ranked_so() -> None:
    table = trials().assign(**{keys.VALIDATION_LOSS: lambda rows: 1 - rows[ACCURACY]})
    by_loss = narrowed(SPACE, {"a": table}, keys.VALIDATION_LOSS, 0.2)
    assert by_loss == narrowed(SPACE, {"a": table}, ACCURACY, 0.2)


def test_a_study_may_lack_a_parameter() -> None:
    whole, lacking = trials(seed=1), trials(seed=2).drop(columns=keys.LEARNING_RATE)
    spaces = [
        narrowed(SPACE, dict(order), ACCURACY, 0.2)
        for order in ([("a", whole), ("b", lacking)], [("b", lacking), ("a", whole)])
    ]
    alone = narrowed(SPACE, {"a": whole}, ACCURACY, 0.2)
    for space in spaces:
        rate = space.parameters[keys.LEARNING_RATE]
        assert rate == alone.parameters[keys.LEARNING_RATE]


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(
        ConfigError,
        match="the best 10% are 1 trials of dynamical that did not diverge; a range needs 3",
    ):
        narrowed(SPACE, {"a": trials(5)}, ACCURACY, 0.1)


def test_the_command_prints_a_space_that_loads(tmp_path: Path) -> None:
    study = tiny_study()
    begun(study, tmp_path)
    session = session_of(study, tmp_path)
    finish(session)
    session.delivery.close()
    done = dynloss_here(
        "space", "narrow", "spirals-mlp", "--from", "tiny", "--top", "60%", "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    space = search_spaces.from_mapping(yaml.safe_load(done.stdout))
    members = StudyFolder.of(study, tmp_path).parts.gather("members")
    found = {"tiny": searched_trials(study, members)}
    assert space == narrowed(SPACE, found, ACCURACY, 0.6)
    assert set(found["tiny"][keys.PHASE]) == {keys.SEARCH}
    file = tmp_path / "narrow.yaml"
    file.write_text(done.stdout)
    compared = dynloss_here("space", "diff", "spirals-mlp", file)
    assert compared.returncode == 1
    assert "static: learning_rate" in compared.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("narrow", "spirals-mlp", "--from", "tiny", "--top", "most"),
            "'most' is not a percentage",
        ),
        (("narrow", "spirals-mlp", "--from", "tiny", "--top", "0%"), "'0%' is not a percentage"),
        (("narrow", "spirals-mlp", "--from", "nowhere"), "no study 'nowhere'"),
        (("grid", "spirals-mlp", "period"), "'period' is not PARAMETER=N"),
        (("grid", "spirals-mlp", "periods=3"), "periods"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(words: tuple[str, ...], message: str) -> None:
    done = dynloss_here("space", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_grid_is_printed_as_lines() -> None:
    done = dynloss_here(
        "space", "grid", "spirals-mlp", "period=2", "amplitude=3", "learning_rate=1"
    )
    points = [json.loads(line) for line in done.stdout.splitlines()]
    assert points == SPACE.grid({"period": 2, "amplitude": 3, "learning_rate": 1})


def test_a_space_does_not_differ_from_itself() -> None:
    done = dynloss_here("space", "diff", "spirals-mlp", "spirals-mlp")
    assert (done.returncode, done.stdout) == (0, "the same parameters\n")
