"""Looking again: rounds of the same winners count together, and each look may spend less."""

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
from studies.analysis.statistics.alpha_spending import share_of_look
from studies.analysis.statistics.comparison import Comparison
from studies.analysis.statistics.equivalence import Decision
from studies.analysis.study_tables import Tables
from studies.runner.run_study import run_study
from studies.runner.until_decided import confirm_until_decided
from studies.storage.stored_study import StoredStudy
from tests.studies.analysis.hall import p_that_decides, wider_interval
from tests.studies.report.made_studies import ARMS, question, study_tables
from tests.studies.sessions import run_without_ray
from tests.studies.tiny import tiny_study


def test_all_later_looks_spend_what_the_first_does() -> None:
    assert share_of_look(1) == 1.0
    assert sum(share_of_look(number) for number in range(2, 10_000)) == pytest.approx(1, abs=2e-4)
    with pytest.raises(ValueError, match="from 1"):
        share_of_look(0)


def looked_again(rounds: int, other_winner: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A study with so many rounds of eight fresh seeds, one of them of another static trial."""
    members, curves = study_tables(adaptive=False)
    confirm = members[members[keys.PHASE] == keys.CONFIRM]
    tables = [members[members[keys.PHASE] != keys.CONFIRM]]
    for number in range(1, rounds + 1):
        again = confirm.copy()
        again[keys.PHASE] = keys.CONFIRM if number == 1 else f"{keys.CONFIRM}-{number}"
        again[keys.SEED] += 100 * number
        draws = np.random.default_rng(number)
        again[keys.TEST_ACCURACY] += draws.normal(0, 0.01, len(again))
        if number == other_winner:
            again.loc[again[keys.ARM] == keys.STATIC, keys.TRIAL] += 1
        tables.append(again)
    return pd.concat(tables, ignore_index=True), curves


def test_rounds_with_the_same_winners_count_together() -> None:
    members, curves = looked_again(3)
    tables = Tables.of(members, curves, question(adaptive=False), {})
    alone = len(tables.looks["confirm"])
    assert list(map(len, tables.looks.values())) == [alone, 2 * alone, 3 * alone]
    assert tables.number_of("confirm-3") == 3
    other, curves = looked_again(3, other_winner=2)
    tables = Tables.of(other, curves, question(adaptive=False), {})
    assert list(map(len, tables.looks.values())) == [alone, alone, 2 * alone]
    assert tables.number_of("confirm-3") == 3, "it was looked at three times all the same"


def test_a_verdict_says_which_look_it_is_and_counts_it() -> None:
    members, curves = looked_again(3)
    analysis = analyse(members, curves, question(adaptive=False))
    (verdict,) = analysis.verdicts
    pairs = members[members[keys.PHASE] != keys.SEARCH].pivot(
        index=keys.SEED, columns=keys.ARM, values=keys.TEST_ACCURACY
    )
    difference = (pairs[ARMS[0]] - pairs[ARMS[1]]).to_numpy()
    assert (verdict.look, verdict.test.n) == (3, len(difference))
    assert verdict.p_adjusted == pytest.approx(6 * p_that_decides(difference))
    assert verdict.test.p_t == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    assert verdict.test.level == pytest.approx(1 - 0.05 / 6)
    ends = wider_interval(difference, 1 - 0.05 / 6)
    assert (verdict.test.low, verdict.test.high) == pytest.approx(ends)
    assert "99.17% interval" in verdict.sentence()
    assert "look 3, at all fresh seeds" in verdict.sentence()
    earlier = [each for each in analysis.findings() if each.startswith("Earlier look")]
    assert len(earlier) == 2
    assert "; look" not in earlier[0]
    assert "look 2, at all fresh seeds" in earlier[1]


def test_whoever_stops_at_the_first_gain_errs_in_one_study_of_twenty() -> None:
    """Five looks at nothing, each at the seeds of all before it."""
    draws, repeats, n, ever = np.random.default_rng(0), 2000, 20, np.zeros(2000, dtype=bool)
    differences = draws.normal(size=(repeats, 5 * n))
    plain = ever.copy()
    for look in range(1, 6):
        seen = differences[:, : look * n]
        t = seen.mean(axis=1) / stats.sem(seen, axis=1)
        p = 2 * stats.t.sf(np.abs(t), seen.shape[1] - 1)
        ever |= (t > 0) & (p < 0.05 * share_of_look(look))
        alone = differences[:, (look - 1) * n : look * n]
        own = stats.ttest_1samp(alone, 0, axis=1)
        plain |= (own.statistic > 0) & (own.pvalue < 0.05)
    assert ever.mean() <= 0.05
    assert plain.mean() > 0.1, "what looking again did before"


@pytest.mark.slow
def test_looking_until_decided_ends_at_the_most_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    monkeypatch.setattr("studies.analysis.statistics.evidence.decide", none_differs)
    folder = run_study(tiny_study(), tmp_path).folder
    outcome = confirm_until_decided(folder, at_most=3, seeds=2)
    (verdict,) = outcome.results.analysis.verdicts
    assert (verdict.look, verdict.test.outcome) == (3, "undecided")
    with pytest.raises(ConfigError, match="3, and the study was looked at 3 times"):
        confirm_until_decided(folder, at_most=3, seeds=2)
    assert len(StoredStudy.read(folder).rounds) == 2, "it was not looked at once more"


@pytest.mark.slow
def test_what_is_decided_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    monkeypatch.setattr("studies.analysis.statistics.evidence.decide", none_differs)
    folder = run_study(tiny_study(equivalence_margin=2.0), tmp_path).folder
    with pytest.raises(ConfigError, match="nothing is undecided: equivalent"):
        confirm_until_decided(folder, at_most=3, seeds=2)
    assert not StoredStudy.read(folder).rounds


def none_differs(comparison: Comparison, margin: float | None, **_: Any) -> Decision:
    """No difference shows; equivalence does, where there is a margin."""
    return Decision("undecided" if margin is None else "equivalent", 0.0, margin, None)
