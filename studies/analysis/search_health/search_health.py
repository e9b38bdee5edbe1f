"""Search health: whether a study's search can be trusted to have found each arm's best.

The file is long because each of its questions has an answer with its own words.

Symbols: K trials of an arm, in the order of their numbers; m <= K of them, a smaller budget.

The questions are those that Godbole, Dahl, Gilmer, Shallue and Nado (2023, Deep Learning Tuning
Playbook) ask before they trust a comparison: does the best lie inside its ranges (see `isolation`),
how much of the space is infeasible, has the search levelled off, did both arms get the same budget,
and which parameters matter.

Objective against budget. An adaptive search has an order, so its best so far is shown. The trials
of a design have no order, so the expected best of m trials drawn at random without replacement is
shown (Dodge, Gururangan, Card, Schwartz and Smith 2019, Show Your Work, EMNLP, with the
finite-sample weights C(i - 1, m - 1) / C(K, m) on the i-th worst), given that one is feasible.

A search has many infeasible trials if the interval of their fraction lies above 10%.

A search has converged if nothing in the last third of the trials improved on the best before it by
more than a tolerance, and there were at least 15 trials, so that this third comes after the 10
random trials that TPE starts with. This is a necessary condition, not a proof: trials drawn at
random pass two times in three.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from dynloss_core import keys
from search_spaces import Space
from studies.analysis.search_health.arm_trials import ArmTrials, arm_trials
from studies.analysis.search_health.importances import Importances, importances
from studies.analysis.search_health.isolation import (
    LEVEL,
    Isolation,
    NearBound,
    isolate,
    near_bounds,
)
from studies.definition.optional_packages import is_installed

__all__ = ["Convergence", "Infeasible", "SearchHealth", "search_health"]

_MANY_INFEASIBLE = 0.1
_ACCURACY_TOLERANCE = 0.005  # where the study has no margin of equivalence
_LOSS_TOLERANCE = 0.01  # relative
_MIN_TRIALS_TO_CONVERGE = 15
_BUDGETS = 60  # number of budgets at which an expected best is evaluated


@dataclass(frozen=True)
class Infeasible:
    """How many trials of an arm are infeasible.

    Args:
        arm: `dynamical` or `static`.
        count: trials with a diverged network, or an objective that is not finite.
        trials: K.
        low: lower end of the Wilson interval of the fraction (Wilson 1927, J. Am. Stat. Assoc.
            22:209).
        high: upper end.
    """

    arm: str
    count: int
    trials: int
    low: float
    high: float

    @property
    def fraction(self) -> float:
        """The infeasible fraction of the trials."""
        return self.count / self.trials


@dataclass(frozen=True, eq=False)
class Convergence:
    """The objective against the budget.

    Args:
        arm: `dynamical` or `static`.
        trials: K, infeasible and stopped ones included.
        budget: (M,) numbers of trials m: at each improvement and K, or spread over 1 to K.
        best: (M,) best mean objective among m trials; empty if all are infeasible.
        tolerance: largest improvement that does not count, in the objective's unit.
        last_improvement: the trial, counted from 1, at which the best so far came within the
            tolerance of the final best; None for a design, or if all are infeasible.
        converged: whether that was before the last third; None for a design.
    """

    arm: str
    trials: int
    budget: np.ndarray
    best: np.ndarray
    tolerance: float
    last_improvement: int | None
    converged: bool | None

    @property
    def convergence_status(self) -> Literal["design", "infeasible", "too few", "late", "converged"]:
        """What can be said about convergence: nothing for a design, without a feasible trial, or
        with too few trials."""
        if self.best.size == 0:
            return "infeasible"
        if self.converged is None:
            return "design"
        if self.converged:
            return "converged"
        return "too few" if self.trials < _MIN_TRIALS_TO_CONVERGE else "late"


@dataclass(frozen=True, eq=False)
class SearchHealth:
    """The health of a study's search.

    Args:
        arms: the arms, in the study's order.
        objective: what was optimised.
        adaptive: whether proposals depended on results (`tpe`).
        isolations: the isolation of each varying parameter of each arm.
        near_bounds: parameters whose best value is near a bound.
        infeasible: infeasible trials by arm.
        convergence: convergence by arm.
        importances: importances by arm, empty without Optuna; None with fewer than 20 feasible
            trials or two varying parameters, or if all trials are equally good.
        equal_budgets: whether all arms had the same number of trials; None with one arm, and for a
            design, where a larger space takes more.
    """

    arms: tuple[str, ...]
    objective: str
    adaptive: bool
    isolations: tuple[Isolation, ...]
    near_bounds: tuple[NearBound, ...]
    infeasible: dict[str, Infeasible]
    convergence: dict[str, Convergence]
    importances: dict[str, Importances | None]
    equal_budgets: bool | None

    def of(self, arms: Collection[str]) -> SearchHealth:
        """The health of only some arms."""
        convergence = {arm: curve for arm, curve in self.convergence.items() if arm in arms}
        equal = len({curve.trials for curve in convergence.values()}) == 1
        return replace(
            self,
            arms=tuple(arm for arm in self.arms if arm in arms),
            isolations=tuple(isolation for isolation in self.isolations if isolation.arm in arms),
            near_bounds=tuple(near for near in self.near_bounds if near.arm in arms),
            infeasible={
                arm: infeasible for arm, infeasible in self.infeasible.items() if arm in arms
            },
            convergence=convergence,
            importances={
                arm: importance for arm, importance in self.importances.items() if arm in arms
            },
            equal_budgets=None
            if self.equal_budgets is None
            else equal and len(convergence) == len(arms),
        )

    def warnings(self) -> list[str]:
        """Reasons not to trust the search, one sentence each."""
        return [*(near.sentence() for near in self.near_bounds), *self.search_warnings()]

    def search_warnings(self) -> list[str]:
        """The warnings about the search as a whole: all but those about bounds."""
        warnings = []
        for arm, infeasible in self.infeasible.items():
            share = f"{infeasible.count} of {infeasible.trials} trials"
            if infeasible.count == infeasible.trials:
                warnings.append(f"{arm}: {share} were infeasible: no setting can be chosen")
            elif infeasible.low > _MANY_INFEASIBLE:
                warnings.append(
                    f"{arm}: {share} ({infeasible.fraction:.0%}, {LEVEL:.0%} interval "
                    f"{infeasible.low:.0%} to {infeasible.high:.0%}) were infeasible: narrow the "
                    "space where the isolation figure shows them"
                )
        for arm, curve in self.convergence.items():
            if curve.convergence_status == "too few":
                warnings.append(
                    f"{arm}: too few trials ({curve.trials}) to say whether the search converged: "
                    f"give it {_MIN_TRIALS_TO_CONVERGE} or more"
                )
            elif curve.convergence_status == "late":
                warnings.append(
                    f"{arm}: not converged: in the last third of its {curve.trials} trials the "
                    f"best still improved by more than {curve.tolerance:.2g}: extend the search"
                )
        if self.equal_budgets is False:
            budgets = {arm: curve.trials for arm, curve in self.convergence.items()}
            listed = " and ".join(f"{budgets.get(arm, 0)} {arm}" for arm in self.arms)
            warnings.append(
                f"unequal budgets: {listed} trials: the arm with more has the better chance of a "
                f"good one; give {'both' if len(self.arms) == 2 else 'all'} the same number"
            )
        return warnings

    def convergence_headline(self) -> str:
        """What the figure of the objective against the budget shows."""
        problems = {
            "infeasible": "No feasible trial",
            "too few": f"Fewer than {_MIN_TRIALS_TO_CONVERGE} trials, too few to say",
            "late": "Not converged",
        }
        lines = [
            f"{problem}: {listed(arms)}"
            for status, problem in problems.items()
            if (arms := [a for a, c in self.convergence.items() if c.convergence_status == status])
        ]
        if lines:
            return "; ".join(lines)
        if not self.adaptive:
            return "What smaller budgets would have found"
        return "Converged: no gain beyond the tolerance in the last third of the trials"

    def convergence_caption(self) -> str:
        """How to read that figure."""
        arms = " and ".join(self.convergence)
        if self.adaptive:
            text = f"The best objective so far against the number of trials ({arms})."
        else:
            text = (
                "The best objective to expect from that many trials of the design, drawn at random "
                f"({arms})."
            )
        if any(importance is not None for importance in self.importances.values()):
            text += " Second panel: how much of its variance each parameter explains alone."
        return text

    def isolation_headline(self) -> str:
        """What the figure of the best at each value shows."""
        lines = []
        without = [
            arm
            for arm, infeasible in self.infeasible.items()
            if infeasible.count == infeasible.trials
        ]
        if without:
            lines.append(f"No feasible trial: {listed(without)}")
        if self.near_bounds:
            names = (f"{near.arm} {near.parameter.replace('_', ' ')}" for near in self.near_bounds)
            lines.append(f"Best setting near a bound: {', '.join(names)}")
        return "; ".join(lines) or "No best setting lies near a bound"

    def isolation_caption(self) -> str:
        """How to read that figure."""
        return (
            f"The best objective found {self.places} of a parameter, whatever the values of the "
            "others; below, the number of trials."
        )

    @property
    def places(self) -> str:
        """Where the best trials of the isolations are: `at each value`, or in bins."""
        binned = [isolation.binned for isolation in self.isolations]
        if binned and all(binned):
            return "in each bin"
        return "at each value or in each bin" if any(binned) else "at each value"


def listed(arms: Sequence[str]) -> str:
    """Arms in a headline: the names of one or two, the number of more."""
    return " and ".join(arms) if len(arms) < 3 else f"{len(arms)} arms"


def search_health(
    search: pd.DataFrame,
    spaces: Mapping[str, Space],
    objective: str,
    *,
    adaptive: bool,
    epochs: float | None = None,
    margin: float | None = None,
    with_importances: bool = True,
) -> SearchHealth | None:
    """The health of a search; None without a trial of the given arms.

    Args:
        search: rows of the members table with phase `search`.
        spaces: the space of each arm.
        objective: static validation metric that was optimised.
        adaptive: whether proposals depended on results (`tpe`).
        epochs: length of a run, needed if a space gives the period in epochs.
        margin: the margin of equivalence in the objective; None without one.
        with_importances: whether to compute importances, which grows a large forest for each arm.

    Raises:
        ValueError: if the table lacks a parameter of a space, or `epochs` is needed.
    """
    arms = [
        arm_trials(search, arm, spaces[arm], objective, epochs=epochs)
        for arm in spaces
        if (search[keys.ARM] == arm).any()
    ]
    if not arms:
        return None
    up = keys.higher_is_better(objective)
    equal = len(arms) == len(spaces) and len({len(trials.number) for trials in arms}) == 1
    return SearchHealth(
        arms=tuple(spaces),
        objective=objective,
        adaptive=adaptive,
        isolations=tuple(chain(*(isolate(trials, spaces[trials.arm]) for trials in arms))),
        near_bounds=tuple(chain(*(near_bounds(trials, spaces[trials.arm]) for trials in arms))),
        infeasible={trials.arm: _infeasible(trials) for trials in arms},
        convergence={trials.arm: _convergence(trials, adaptive, up, margin) for trials in arms},
        importances={
            trials.arm: importances(trials, spaces[trials.arm], adaptive=adaptive)
            for trials in arms
            if with_importances and is_installed("optuna")
        },
        equal_budgets=equal if adaptive and len(spaces) > 1 else None,
    )


def _infeasible(trials: ArmTrials) -> Infeasible:
    count, total = int(trials.infeasible.sum()), len(trials.number)
    low, high = proportion_confint(count, total, alpha=1 - LEVEL, method="wilson")
    return Infeasible(trials.arm, count, total, float(low), float(high))


def _convergence(trials: ArmTrials, adaptive: bool, up: bool, margin: float | None) -> Convergence:
    """Convergence, with a tolerance of half the margin of equivalence; without one, of 0.005 for an
    accuracy or 1% of the best loss. If the noise of a trial's mean is larger, it is the tolerance:
    the best of many noisy trials creeps upwards for ever."""
    total, sign = len(trials.score), 1.0 if up else -1.0
    top = float(trials.score.max())
    small = _ACCURACY_TOLERANCE if up or math.isinf(top) else _LOSS_TOLERANCE * abs(top)
    if margin is not None:
        small = margin / 2
    tolerance = float(np.fmax(small, trials.noise))
    last = None
    if math.isinf(top):
        budget, best = np.empty(0, dtype=int), np.empty(0)
    elif adaptive:
        so_far = np.maximum.accumulate(trials.score)  # (K,)
        first = int(np.isfinite(so_far).argmax())
        steps = first + 1 + np.flatnonzero(np.diff(so_far[first:]) > 0)
        at = np.unique([first, *steps, total - 1])
        budget, best = at + 1, so_far[at]
        last = int(np.argmax(so_far >= top - tolerance)) + 1
    else:
        budget, best = _expected_best(trials.score)
    converged = None
    if adaptive:
        quiet = last is not None and 3 * last <= 2 * total
        converged = quiet and total >= _MIN_TRIALS_TO_CONVERGE
    return Convergence(trials.arm, total, budget, sign * best, tolerance, last, converged)


def _expected_best(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Budgets (M,), and the expected best score of that many trials drawn without replacement."""
    total = len(score)
    ranked = np.sort(score)  # (K,) infeasible first
    feasible = np.isfinite(ranked)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])  # log i!
    budget = np.unique(np.geomspace(1, total, _BUDGETS).round().astype(int))
    best = np.empty(len(budget))
    for k, m in enumerate(budget):
        i = np.arange(max(m, np.argmax(feasible) + 1), total + 1)  # ranks that can be the best
        log_weight = logs[i - 1] - logs[i - m]
        weight = np.exp(log_weight - log_weight.max())
        best[k] = weight @ ranked[i - 1] / weight.sum()
    return budget, best
