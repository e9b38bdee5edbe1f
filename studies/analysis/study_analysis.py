"""Everything that a study's tables say, as one frozen result; no figure is drawn and no file read.

What can be said depends on the study: a map has gain maps, a sweep over sizes has regimes, a search
has its health, and a confirmation has verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
from pandas.api.types import is_numeric_dtype

from dynloss_core import keys
from dynloss_core.oscillation import oscillation_stop
from studies.analysis.gains.gain_map import GainMap, gain_map
from studies.analysis.gains.learning_curves import LearningCurve, learning_curves
from studies.analysis.gains.regimes import Regimes, regimes
from studies.analysis.landscape.minima import Minima, minima
from studies.analysis.landscape.peristalsis import Peristalsis, peristalsis
from studies.analysis.landscape.recorded_runs import Recordings, recordings
from studies.analysis.landscape.threshold import Threshold, threshold
from studies.analysis.landscape.valleys import ValleyRun, valley_runs
from studies.analysis.question import Question
from studies.analysis.search_health.search_health import SearchHealth, search_health
from studies.analysis.setting_verdicts import (
    SettingVerdict,
    at_first_setting,
    by_setting,
    point_of,
    several_origins,
    verdicts,
)
from studies.definition.early_stopping import is_stopped

__all__ = ["Analysis", "analyse"]

MAPS = {"gain_map": keys.PERIOD, "learning_rate_map": keys.LEARNING_RATE}
_SHOWN_CURVES = (keys.VALIDATION_ACCURACY, keys.TRAIN_ACCURACY, keys.TRAIN_LOSS)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a study's tables say.

    Args:
        trials: searched trials of each arm, and how many of them diverged.
        stopped: how many of them were stopped early; they take part in the health of the search
            alone, as what the search has spent.
        verdicts: the verdicts of the latest confirmation, one per scientific setting.
        phase: the phase of that confirmation; None if there was none.
        pairs: the test metric behind each verdict, one row per seed, one column per arm.
        winners: point of each arm that was confirmed, at the first setting.
        maps: gain maps by name.
        regimes: by the parameter that sets the size.
        health: the health of the search.
        origins: a warning if the networks were trained with several states of the code.
        curves: learning curves of the winners, a panel a metric; only with one setting.
        tail_start: the step from which the dynamical winner trains statically.
        recorded: runs that were recorded beside their evaluations.
        threshold: where their instabilities begin, over learning rates and sizes.
        minima: how sharp the networks ended.
        peristalsis: how valleys move within the periods of the recorded runs.
        valleys: runs whose valleys were recorded.
        earlier: verdicts of earlier rounds of confirmation, by phase.
    """

    trials: dict[str, tuple[int, int]] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    verdicts: tuple[SettingVerdict, ...] = ()
    phase: str | None = None
    pairs: tuple[pd.DataFrame, ...] = ()
    winners: dict[str, dict[str, object]] = field(default_factory=dict)
    maps: dict[str, GainMap] = field(default_factory=dict)
    regimes: dict[str, Regimes] = field(default_factory=dict)
    health: SearchHealth | None = None
    origins: tuple[str, ...] = ()
    curves: tuple[list[LearningCurve], ...] = ()
    tail_start: int | None = None
    recorded: Recordings | None = None
    threshold: Threshold | None = None
    minima: Minima | None = None
    peristalsis: Peristalsis | None = None
    valleys: tuple[ValleyRun, ...] = ()
    earlier: dict[str, tuple[SettingVerdict, ...]] = field(default_factory=dict)

    def findings(self) -> list[str]:
        """What was found, in sentences, claims on fresh seeds first."""
        found = [each.sentence() for each in self.verdicts]
        for phase, earlier in self.earlier.items():
            found += [f"Earlier round ({phase}). {each.sentence()}" for each in earlier]
        return [*found, *self.statements()]

    def statements(self) -> list[str]:
        """What regimes, maps and recorded runs say, in sentences; the map of an adaptive search is
        exploratory and says nothing."""
        sources = [
            self.recorded,
            self.peristalsis,
            self.threshold,
            self.minima,
            *self.regimes.values(),
            *(gains for gains in self.maps.values() if not gains.adaptive),
        ]
        return [
            sentence for source in sources if source is not None for sentence in source.sentences()
        ]

    def warnings(self) -> list[str]:
        """What to beware of in the search behind it, and in its verdicts, each once."""
        found = list(self.origins)
        if self.health is not None:  # bounds are asked of each setting where there are several
            several = any(each.setting for each in self.verdicts)
            found += self.health.search_warnings() if several else self.health.warnings()
        found += [warning for each in self.verdicts for warning in each.warnings]
        return list(dict.fromkeys(found))

    def other_warnings(self) -> list[str]:
        """Those that stand beside no verdict."""
        beside = {warning for each in self.verdicts for warning in each.warnings}
        return [warning for warning in self.warnings() if warning not in beside]


def analyse(
    members: pd.DataFrame,
    curves: pd.DataFrame,
    question: Question,
    recorded: Mapping[str, pd.DataFrame] | None = None,
) -> Analysis:
    """Analyse a study, finished or not, with what is there.

    Args:
        members: the members table. Of trials that were stopped early only the search's health is
            told: everything else is about the end of training.
        curves: the curves table; may be empty.
        question: what the tables alone do not tell.
        recorded: what was recorded beside them, by kind (see `studies.blocks.recorder.KINDS`).
    """
    if members.empty:
        return Analysis()
    tried = members[members[keys.PHASE] == keys.SEARCH]
    members = members[~is_stopped(members)]
    search = members[members[keys.PHASE] == keys.SEARCH]
    rounds = _rounds(members)
    phase = next(reversed(rounds), None)
    confirm = members.iloc[:0] if phase is None else rounds.pop(phase)
    arms = list(question.spaces)
    health = _health(tried, question)
    latest, pairs = verdicts(confirm, tried, question, health)
    first = at_first_setting(confirm, question.scientific)
    winners = {
        arm: point_of(question, first, arm) for arm in arms if (first[keys.ARM] == arm).any()
    }
    sizes = [each for each in question.scientific if is_numeric_dtype(members[each])]
    size = next(iter(sizes), None)
    runs = recordings(members, recorded or {})
    one_setting = len(by_setting(confirm, question.scientific)) == 1
    return Analysis(
        trials={arm: _count(tried, arm) for arm in arms},
        stopped={arm: _count_stopped(tried, arm) for arm in arms},
        verdicts=latest,
        phase=phase,
        pairs=pairs,
        winners=winners,
        maps=_maps(search, question),
        regimes=_regimes(search, confirm, sizes, question),
        health=health,
        origins=tuple(several_origins(members)),
        curves=_curves(curves, phase) if winners and one_setting else (),
        tail_start=_tail_start(first, question.tail),
        earlier={  # their winners came from an earlier state of the search: without its health
            name: verdicts(rows, tried, question, None)[0] for name, rows in rounds.items()
        },
        recorded=runs,
        threshold=None if runs is None else threshold(runs, size, question.attainable),
        minima=minima(search if confirm.empty else confirm, size),
        peristalsis=None if runs is None else peristalsis(runs),
        valleys=_valleys(members, recorded or {}, runs),
    )


def _maps(search: pd.DataFrame, question: Question) -> dict[str, GainMap]:
    maps = {
        name: gain_map(search, question.objective, x, adaptive=question.adaptive)
        for name, x in MAPS.items()
    }
    return {name: each for name, each in maps.items() if each is not None}


def _regimes(
    search: pd.DataFrame, confirm: pd.DataFrame, sizes: list[str], question: Question
) -> dict[str, Regimes]:
    attainable, margin = question.attainable, question.margin
    found = {
        name: regimes(
            search, confirm, name, question.objective, attainable=attainable, margin=margin
        )
        for name in sizes
    }
    return {name: each for name, each in found.items() if each is not None}


def _curves(curves: pd.DataFrame, phase: str | None) -> tuple[list[LearningCurve], ...]:
    """Those of both winners, a panel per metric."""
    if curves.empty:
        return ()
    rows = curves[curves[keys.PHASE] == phase]
    return tuple(learning_curves(rows, metric) for metric in _SHOWN_CURVES)


def _valleys(
    members: pd.DataFrame, recorded: Mapping[str, pd.DataFrame], runs: Recordings | None
) -> tuple[ValleyRun, ...]:
    """The runs to draw: of one point an arm, so that a seed names one run of each."""
    if runs is None or not runs.one_point:
        return ()
    return valley_runs(members, recorded.get("valleys", pd.DataFrame()), runs)


def _rounds(members: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rounds of confirmation in their order; one that has no pair yet only if there is no other."""
    phases = [str(each) for each in members[keys.PHASE].unique() if each != keys.SEARCH]
    phases.sort(key=lambda each: int(each.partition("-")[2] or 1))
    rounds = {phase: members[members[keys.PHASE] == phase] for phase in phases}
    paired = {name: rows for name, rows in rounds.items() if rows[keys.ARM].nunique() > 1}
    return paired or rounds


def _count(search: pd.DataFrame, arm: str) -> tuple[int, int]:
    by_trial = search[search[keys.ARM] == arm].groupby(keys.TRIAL)[keys.DIVERGED].any()
    return len(by_trial), int(by_trial.sum())


def _count_stopped(search: pd.DataFrame, arm: str) -> int:
    mine = search[search[keys.ARM] == arm]
    return int(mine.loc[is_stopped(mine), keys.TRIAL].nunique())


def _health(search: pd.DataFrame, question: Question) -> SearchHealth | None:
    if search.empty:
        return None
    return search_health(
        search,
        dict(question.spaces),
        question.objective,
        adaptive=question.adaptive,
        epochs=question.epochs,
    )


def _tail_start(confirm: pd.DataFrame, tail: float) -> int | None:
    """The step from which the dynamical winner trains statically."""
    rows = confirm[confirm[keys.ARM] == keys.DYNAMICAL]
    if rows.empty:
        return None
    steps, period = int(rows[keys.STEPS].iloc[0]), int(rows[keys.PERIOD].iloc[0])
    return oscillation_stop(steps, round(tail * steps), period)
