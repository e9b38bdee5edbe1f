"""What a study can show, by simulation and at the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from dynloss_core.config import ConfigError
from studies.analysis.statistics.power import Power, power_of
from tests.studies.tiny import MAP, tiny_study


def power(**changes: Any) -> Power:
    found = power_of(tiny_study(**{"equivalence_margin": 0.01, "confirm_seeds": 24, **changes}))
    assert found is not None
    return found


def share(
    n: int, sd: float, mean: float, margin: float | None = None, alpha: float = 0.05
) -> float:
    """How often a t test, or two one-sided ones, reject: 4,000 studies."""
    d = np.random.default_rng(0).normal(mean, sd, (4000, n))
    if margin is None:
        return float((stats.ttest_1samp(d, 0, axis=1).pvalue < alpha).mean())
    sem = d.std(axis=1, ddof=1) / np.sqrt(n)
    p = stats.t.sf((margin - np.abs(d.mean(axis=1))) / sem, n - 1)
    return float((p < alpha).mean())


def test_the_gain_it_names_is_found_in_nine_of_ten_studies() -> None:
    found = power(spread={"seeds": 0.03})
    assert (found.n, found.unit) == (24, "fresh seeds")
    assert share(24, 0.03, found.gain) == pytest.approx(0.9, abs=0.02)
    assert found.equivalence is not None
    assert found.equivalence == pytest.approx(share(24, 0.03, 0.0, 0.01), abs=0.02)


def test_with_searches_the_pairs_are_searches() -> None:
    found = power(spread={"seeds": 0.03, "searches": 0.02}, searches=8)
    sd = np.hypot(0.02, 0.03 / np.sqrt(24))
    assert (found.n, found.unit) == (8, "searches")
    assert share(8, float(sd), found.gain) == pytest.approx(0.9, abs=0.02)


def test_several_comparisons_share_the_error() -> None:
    arms = {"static": {"baseline": True}, "a": {}, "b": {}}
    one, two = power(spread={"seeds": 0.03}), power(spread={"seeds": 0.03}, arms=arms)
    assert two.gain > one.gain
    assert share(24, 0.03, two.gain, alpha=0.025) == pytest.approx(0.9, abs=0.02)


def test_it_says_what_would_be_enough() -> None:
    found = power(spread={"seeds": 0.05})
    assert found.is_hopeless
    assert found.needed is not None
    enough = power(spread={"seeds": 0.05}, confirm_seeds=found.needed)
    assert enough.equivalence is not None
    assert enough.equivalence >= 0.9
    assert not enough.is_hopeless
    assert f"{found.needed} fresh seeds would show it" in found.sentences()[1]


def test_nothing_is_said_without_a_spread_or_a_verdict() -> None:
    assert power_of(tiny_study()) is None
    assert (
        power_of(
            tiny_study(
                **MAP, grid={"period": 2, "amplitude": 2, "learning_rate": 2}, spread={"seeds": 1.0}
            )
        )
        is None
    )


def test_it_changes_no_result() -> None:
    assert tiny_study(spread={"seeds": 0.03}).hash == tiny_study().hash
    for bad in ({"seeds": 0.0}, {"seeds": 1.0, "searches": -1.0}):
        with pytest.raises(ConfigError, match="spread"):
            tiny_study(spread=bad)
