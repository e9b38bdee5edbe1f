"""How fast arms are: curves whose times are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from dynloss_core import keys
from search_spaces import Space
from search_spaces.parameters import FloatParameter
from studies.analysis.figures.speed import draw_speed
from studies.analysis.gains.speed import TARGET_SHARE, Speed, speed, speeds_of
from studies.analysis.question import Question
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair
from tests.studies.analysis.hall import p_that_decides

STEPS = np.arange(0, 1001, 100)


def study(
    times: dict[str, list[float]], ends: dict[str, float] | None = None, phase: str = keys.CONFIRM
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Networks that jump from guessing (0) to the end of their arm at a step, one a seed; those of
    time infinity never do."""
    members, curves = [], []
    for arm, each in times.items():
        for seed, time in enumerate(each):
            network = {keys.PHASE: phase, keys.ARM: arm, keys.TRIAL: 3, keys.SEED: seed}
            members.append({**network, keys.STEPS: 1000})
            end = (ends or {}).get(arm, 0.8)
            curves += [
                {**network, keys.STEP: step, keys.VALIDATION_ACCURACY: end * (step >= time)}
                for step in STEPS
            ]
    return pd.DataFrame(members), pd.DataFrame(curves)


def found(*tables: pd.DataFrame, **options: object) -> Speed:
    made = speed(*tables, Pair("dynamical", "static"), **options)  # type: ignore[arg-type]
    assert made is not None
    return made


def test_times_are_paired_and_cut_off() -> None:
    never = np.inf
    times = {"dynamical": [400, 600, 500, never], "static": [100, 250, 200, 100]}
    result = found(*study(times))
    assert result.target == pytest.approx(TARGET_SHARE * 0.8)
    assert result.means == {
        "dynamical": (400 + 600 + 500 + 1000) / 4,
        "static": (100 + 300 + 200 + 100) / 4,
    }
    assert result.difference[0] == pytest.approx(np.mean([300, 300, 300, 900]))
    np.testing.assert_allclose(
        result.reached["dynamical"][[3, 4, 5, 6, 10]], [0, 0.25, 0.5, 0.75, 0.75]
    )
    assert "3 of 4 and 4 of 4 networks get there" in result.sentence()


def test_who_gets_there_at_the_last_evaluation_gets_there() -> None:
    draws = np.random.default_rng(0)
    late = [1000.0] * 13 + [*draws.choice([400.0, 500.0, 600.0], 47)]
    result = found(*study({"dynamical": list(draws.permutation(late)), "static": late}))
    failed = result.evidence.failures
    assert failed is not None
    assert (failed.arm, failed.reference) == (0, 0)
    assert "of networks that get there" not in result.sentence()
    assert "60 of 60 and 60 of 60 networks get there" in result.sentence()


def test_slower_but_better_is_said() -> None:
    times = {"dynamical": [700.0, 600, 800, 700] * 5, "static": [100.0, 200, 300, 200] * 5}
    result = found(*study(times, {"dynamical": 0.9}))
    assert result.target == pytest.approx(TARGET_SHARE * 0.8), "what the lower arm reaches too"
    assert (result.slower, result.faster) == (True, False)
    assert "slower, but better at the end" in result.sentence("better")
    assert "slower, and worse at the end" in result.sentence("worse")
    assert "slower (" in result.sentence("undecided")
    turned = found(*study({"dynamical": times["static"], "static": times["dynamical"]}))
    assert "faster, and better at the end" in turned.sentence("better")
    assert "faster, but worse at the end" in turned.sentence("worse")


@pytest.mark.parametrize(
    ("pairs", "later", "claimed", "fragile"),
    [(28, 50, False, False), (30, 50, True, True), (80, 150, True, False), (8, 450, True, False)],
)
def test_a_claim_that_unseen_networks_could_undo_is_of_those_that_get_there(
    pairs: int, later: int, claimed: bool, fragile: bool
) -> None:
    """Every network of thirty gets there; one in seven of the others may not, for all that is
    known. Of eighty, that is out of the question; of fewer than thirty, it is not claimed."""
    slow = [200.0 + later + 50 * (-1) ** k for k in range(pairs)]
    result = found(*study({"dynamical": slow, "static": [200.0] * pairs}))
    assert result.p < 0.05
    assert (result.slower, result.of_those_there) == (claimed, fragile)
    assert ("slower (of networks that get there)" in result.sentence()) == fragile
    withheld = "slower by these pairs alone, which more could undo (" in result.sentence()
    assert withheld == (not claimed)
    assert "not seen to differ" not in result.sentence()
    assert result.unseen[0] < result.difference[1]
    assert result.unseen[1] > result.difference[2]
    row = result.row()
    assert (row["low_with_unseen"], row["high_with_unseen"]) == result.unseen


def test_no_difference_is_no_claim() -> None:
    times = {"dynamical": [100, 500, 300, 700], "static": [500, 100, 700, 300]}
    result = found(*study(times))
    assert not result.slower
    assert not result.faster
    assert "not seen to differ" in result.sentence("better")


def test_searches_are_compared_by_their_means() -> None:
    parts = [
        study({"dynamical": [500 + 100 * k, 700], "static": [100, 300]}, phase=name)
        for k, name in enumerate(("confirm", "confirm.2", "confirm.3"))
    ]
    members, curves = (pd.concat(tables) for tables in zip(*parts, strict=True))
    result = found(members, curves, several=True)
    assert (result.evidence.everyone.n, result.several) == (3, True)
    assert result.difference[0] == pytest.approx(np.mean([600, 650, 700]) - 200)
    assert result.networks == {"dynamical": 6, "static": 6}
    assert "n = 3 searches" in result.sentence()


def test_a_network_that_falls_back_has_been_there() -> None:
    members, curves = study({"dynamical": [300, 300], "static": [300, 300]})
    late = (curves[keys.STEP] > 500) & (curves[keys.ARM] == "dynamical") & (curves[keys.SEED] == 0)
    curves.loc[late, keys.VALIDATION_ACCURACY] = np.nan  # as where it diverged
    assert found(members, curves).means["dynamical"] == 300


def test_claims_count_all_comparisons_and_looks() -> None:
    draws = np.random.default_rng(0)
    base = {
        "static": [300.0] * 32,
        "a": list(300.0 + 100 * draws.integers(-1, 2, 32)),
        "b": [700.0] * 16 + [600.0] * 16,
    }
    members, curves = study(base)
    members = members.assign(**{keys.PERIOD: np.nan, keys.DIVERGED: False})
    rate = FloatParameter(low=0.1, high=10.0, scale="log")
    spaces = dict.fromkeys(base, Space(name="s", parameters={"learning_rate": rate}))
    pairs = (Pair("a", "static"), Pair("b", "static"))
    asked = Question(keys.VALIDATION_ACCURACY, spaces, pairs)
    found = speeds_of(Tables.of(members, curves, asked, {}))
    raw = [p_that_decides(np.subtract(base[arm], base["static"])) for arm in ("a", "b")]
    assert [each.evidence.everyone.p for each in found] == pytest.approx(raw)
    expected = multipletests(raw, method="holm")[1]
    assert [each.p for each in found] == pytest.approx(list(expected))
    assert {each.compared for each in found} == {2}
    assert "over 2 (Holm)" in found[1].sentence()
    assert found[1].slower


def test_nothing_to_compare() -> None:
    members, curves = study({"dynamical": [300, 300], "static": [300, 300]})
    pair = Pair("dynamical", "static")
    assert speed(members, curves.iloc[:0], pair) is None
    assert speed(members[members[keys.ARM] == "static"], curves, pair) is None
    assert speed(members, curves[curves[keys.STEP] > 800], pair) is None
    assert speed(members, curves, pair, chance=0.85) is None, "arms that only guess"


def test_the_figure_has_a_panel_for_each() -> None:
    one = found(*study({"dynamical": [300, 400], "static": [100, 200]}), label="width 20")
    figure = draw_speed([one] * 4)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 4
    assert shown[0].get_title(loc="left") == "width 20, accuracy 0.720"
    lines = [line.get_xdata()[0] for line in shown[0].lines if line.get_linestyle() == "--"]
    assert sorted(lines) == [150, 350]
