"""Parameter importances: how much of an arm's objective varies with each parameter alone.

Symbols: K feasible trials, d parameters that vary; u in [0, 1] a value's position along its scale.

By functional ANOVA (Hutter, Hoos and Leyton-Brown 2014, ICML, PMLR 32:754), as in Optuna: a random
forest learns the objective, and its variance over the space is split into the part of each
parameter, averaged over the others, and a rest: interactions, and noise that the trees learned.

Two things are done differently from `optuna.importance.get_param_importances(study)`. Optuna
integrates over the raw values even where the scale is a log one, so that learning rates from 0.1 to
1 count a tenth as much as those from 1 to 10: here the study is built from u. And Optuna rescales
the parts to add up to 1, which hides how little is explained: here they are fractions of the
variance.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search_spaces import ChoiceParameter, Space
from studies.analysis.search_health.arm_trials import ArmTrials, along, bounds_of, scale_of

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

__all__ = ["Importances", "importances"]

_MIN_FITTED_TRIALS = 20
# time grows almost as the square: Optuna's 64 trees take 2 minutes for 2,000 trials
_MAX_FITTED_TRIALS = 200
_TREES = 16
_GROUPS = 5
_SEED = 0
_ADAPTIVE_WARNING = (
    "adaptive sampling biases importances: trials gather where the sampler found them good, and "
    "few cover the rest of the space (for unbiased ones, use mode: map)"
)


@dataclass(frozen=True)
class Importances:
    """How much of the variance of an arm's objective each parameter explains alone.

    Args:
        arm: `dynamical` or `static`.
        fractions: fraction of the variance by parameter, largest first; the rest is interactions
            and noise.
        sem: standard error of the fraction by parameter, from a jackknife over 5 groups of trials,
            each left out in turn (Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch.
            11).
        trials: number of feasible trials that they are based on.
        warning: a caveat, or None.
    """

    arm: str
    fractions: dict[str, float]
    sem: dict[str, float]
    trials: int
    warning: str | None


def importances(trials: ArmTrials, space: Space, *, adaptive: bool) -> Importances | None:
    """The importances of an arm's parameters.

    Args:
        trials: the trials of the arm.
        space: the space of the arm.
        adaptive: whether proposals depended on results (`tpe`).

    Returns:
        None with fewer than 20 feasible trials, with fewer than two varying parameters, or if all
        trials (outside one group of the jackknife) are equally good.
    """
    feasible = np.flatnonzero(np.isfinite(trials.score))
    if len(feasible) < _MIN_FITTED_TRIALS or len(trials.settings) < 2:
        return None
    draws = np.random.default_rng(_SEED)
    rows = draws.permutation(feasible)[:_MAX_FITTED_TRIALS]
    without = [np.delete(rows, np.s_[group::_GROUPS]) for group in range(_GROUPS)]
    if not all(np.ptp(trials.score[part]) for part in without):
        return None
    whole = _fractions(trials, space, rows)
    parts = np.array([[*_fractions(trials, space, part).values()] for part in without])  # (5, d)
    sem = np.sqrt((_GROUPS - 1) * parts.var(axis=0))
    order = sorted(whole, key=lambda name: -whole[name])
    return Importances(
        arm=trials.arm,
        fractions={name: whole[name] for name in order},
        sem=dict(zip(whole, sem.tolist(), strict=True)),
        trials=len(rows),
        warning=_ADAPTIVE_WARNING if adaptive else None,
    )


def _fractions(trials: ArmTrials, space: Space, rows: np.ndarray) -> dict[str, float]:
    """Fractions of the variance by parameter, in the order of the space."""
    import optuna

    with _quiet():
        study = _optuna_study(trials, space, rows)
        fractions = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=_SEED),
            normalize=False,
        )
    return {name: float(fractions[name]) for name in trials.settings}


def _optuna_study(trials: ArmTrials, space: Space, rows: np.ndarray) -> optuna.Study:
    """The trials at `rows` as a study of Optuna, with each parameter as u, or as an index for a
    choice without an order."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    study = optuna.create_study(direction="maximize")
    columns: dict[str, list[float]] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name, settings in trials.settings.items():
        parameter = space.parameters[name]
        scale = scale_of(parameter)
        if scale is None:
            assert isinstance(parameter, ChoiceParameter)
            distributions[name] = CategoricalDistribution(range(len(parameter.values)))
            columns[name] = settings[rows].tolist()
        else:
            distributions[name] = FloatDistribution(0.0, 1.0)
            u = along(settings[rows], *bounds_of(parameter), scale)
            columns[name] = np.clip(u, 0.0, 1.0).tolist()
    study.add_trials(
        optuna.trial.create_trial(
            value=float(trials.score[row]),
            params={name: column[k] for name, column in columns.items()},
            distributions=distributions,
        )
        for k, row in enumerate(rows)
    )
    return study


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's line for each new study, and its warning that `normalize` is
    experimental."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
