"""What a study refuses, before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dynloss_core import keys
from dynloss_core.config import ConfigError, join_key, show
from dynloss_core.training import choose_engine, steps_per_epoch
from search_spaces import Space
from studies.definition.early_stopping import check_rungs
from studies.definition.samplers import SAMPLERS, samplers_of

if TYPE_CHECKING:
    from studies.definition.study import Study

__all__ = [
    "check_block_sizes",
    "check_mode",
    "check_name",
    "check_numbers",
    "check_problems",
    "check_spaces",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# what lies beside the studies' folders; some file systems ignore case
_RESERVED = re.compile(r"artifacts|across|mlflow(\..*)?", re.IGNORECASE)
_MAX_TRIALS_PER_ARM = 1_000_000
_MAX_SEARCHES = 1_000
_MIN_VALUES = {
    "searches": 1,
    "refine": 0,
    "finalists": 1,
    "seeds_per_point": 1,
    "confirm_seeds": 2,
    "block_size": 1,
    "parallel_blocks": 1,
    "seed": 0,
}


def check_name(name: str) -> None:
    """Refuse a name that no folder can have, or that the output folder uses for something else."""
    if not _NAME.fullmatch(name):
        remedy = "use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        raise ConfigError("name", f"{show(name)} cannot name a folder", remedy)
    if _RESERVED.fullmatch(name):
        problem = f"{show(name)} is a name that the output folder uses for something else"
        raise ConfigError("name", problem, f"use another, such as {name}-study")


def check_numbers(study: Study, max_seeds: int) -> None:
    """Refuse numbers out of range; the search, and a round, have at most `max_seeds`."""
    for key, smallest in _MIN_VALUES.items():
        number = getattr(study, key)
        if number != "auto" and number < smallest:
            raise ConfigError(key, f"{number} is below {smallest}", "raise it")
    if study.searches > _MAX_SEARCHES:
        raise ConfigError("searches", f"{study.searches} exceeds {_MAX_SEARCHES}", "lower it")
    for key in ("seeds_per_point", "finalist_seeds", "confirm_seeds"):
        number = getattr(study, key)
        if number is not None and number > max_seeds:
            raise ConfigError(key, f"{number} exceeds {max_seeds}", "lower it")
    if study.finalist_seeds is not None and study.finalist_seeds < 1:
        raise ConfigError("finalist_seeds", f"{study.finalist_seeds} is below 1", "raise it")
    if study.finalist_seeds is not None and study.finalists == 1:
        raise ConfigError("finalist_seeds", "given without finalists", "add finalists: 4, say")
    if study.fails_below is not None and not 0 < study.fails_below < 1:
        problem = f"{study.fails_below} is not an accuracy between 0 and 1"
        raise ConfigError("fails_below", problem, "use 0.5, say")
    if study.equivalence_margin is not None and not study.equivalence_margin > 0:
        problem = f"{study.equivalence_margin} is not above 0"
        raise ConfigError("equivalence_margin", problem, "use > 0")


def check_block_sizes(study: Study) -> None:
    """Refuse sizes of blocks that nothing measured."""
    if not study.block_sizes:
        return
    if study.block_size != "auto":
        problem = f"given with block_size {study.block_size}"
        raise ConfigError("block_sizes", problem, "leave it out, or use block_size: auto")
    if set(study.block_sizes) != set(study.arms):
        problem = f"names {', '.join(study.block_sizes)}, not each arm"
        raise ConfigError("block_sizes", problem, "leave it out: it is measured")
    for arm, size in study.block_sizes.items():
        if size < 1:
            raise ConfigError(f"block_sizes.{arm}", f"{size} is below 1", "leave block_sizes out")


def check_spaces(study: Study) -> None:
    """Refuse a space that lacks what an arm needs, or whose baseline is not the static loss."""
    for arm, options in study.named_arms.items():
        space = study.arm_space(arm)
        constant = space.constants().get(keys.AMPLITUDE) == 1
        _check_period(study.space, space, arm)
        if options.baseline and (not constant or keys.PERIOD in space.parameters):
            raise ConfigError(
                "space.baseline",
                f"does not make {arm!r} a static arm",
                "write baseline: {fix: {amplitude: 1.0}, drop: [period]}",
            )
        oscillating = [] if constant else [keys.PERIOD, keys.AMPLITUDE]
        for name in (keys.LEARNING_RATE, *oscillating):
            if name not in space.parameters:
                key = f"space.parameters.{name}"
                raise ConfigError(key, "missing", "search it, or give it as a constant")
        for name in space.searched():
            if (
                study.mode == "optimize"
                and "." in name
                and space.parameters[name].role == "scientific"
            ):
                raise ConfigError(
                    f"space.parameters.{name}.role",
                    "'scientific': each arm would choose its own, and the verdict mix the two",
                    "use mode: map, or role: nuisance to tune it for each arm",
                )


def _check_period(whole: Space, space: Space, arm: str) -> None:
    """Refuse a period whose unit is not that of the study's, in which tables are read."""
    ours, own = (searched.parameters.get(keys.PERIOD) for searched in (whole, space))
    if own is not None and (ours is None or own.unit != ours.unit):
        unit = "no period" if ours is None else f"its period in {ours.unit}"
        raise ConfigError(
            f"arms.{arm}.search.period.unit",
            f"{own.unit}, but the space has {unit}",
            "use one unit",
        )


def check_mode(study: Study) -> None:
    """Refuse entries that the study's mode has no use for, and missing ones that it needs."""
    allowed = samplers_of(study.mode)
    if study.sampler not in allowed:
        choices = " or ".join(allowed)
        raise ConfigError("sampler", f"{study.sampler!r} in mode {study.mode}", f"use {choices}")
    for key in ("searches", "refine", "finalists") if study.mode == "confirm" else ():
        if getattr(study, key) > _MIN_VALUES[key]:
            raise ConfigError(
                key, "given in mode confirm", "nothing is searched there: leave it out"
            )
    if study.refine % 2:
        raise ConfigError("refine", f"{study.refine} is odd", "points are tried in pairs: add one")
    _check_trials(study)
    _check_grid(study)
    _check_winners(study)
    if study.refine and not any(study.trials_of(arm).refined for arm in study.arms):
        problem = "no parameter that it could refine has a range"
        raise ConfigError("refine", problem, "give one a low and a high, or leave refine out")
    if study.start_points and study.mode != "optimize":
        problem = f"given in mode {study.mode}: no search begins there"
        raise ConfigError("start_points", problem, "leave it out, or use mode: optimize")
    if study.early_stopping is not None and study.mode != "optimize":
        reason = {
            "map": "a map needs every point trained to its end",
            "confirm": "every fresh seed counts",
        }[study.mode]
        problem = f"given in mode {study.mode}: {reason}"
        raise ConfigError("early_stopping", problem, "leave it out, or use mode: optimize")


def _check_trials(study: Study) -> None:
    needed = study.mode != "confirm" and not SAMPLERS[study.sampler].takes_grid
    if needed and (study.trials_per_arm is None or study.trials_per_arm < 1):
        problem = "missing" if study.trials_per_arm is None else f"{study.trials_per_arm} < 1"
        raise ConfigError("trials_per_arm", problem, "say how many points each arm may try")
    if study.extensions and (not needed or min(study.extensions) < 1):
        problem = f"{list(study.extensions)} in mode {study.mode} with sampler {study.sampler}"
        raise ConfigError("extensions", problem, "leave it out, or use numbers >= 1")
    if study.proposed > _MAX_TRIALS_PER_ARM:
        raise ConfigError(
            "trials_per_arm", f"{study.proposed} exceeds {_MAX_TRIALS_PER_ARM:,}", "lower it"
        )


def _check_grid(study: Study) -> None:
    if SAMPLERS[study.sampler].takes_grid:
        if study.grid is None:
            raise ConfigError("grid", "missing", "give the number of values of each parameter")
        study.space.grid(study.grid)
    elif study.grid is not None:
        raise ConfigError("grid", f"given with sampler {study.sampler}", "use sampler: grid")


def _check_winners(study: Study) -> None:
    if (study.mode == "confirm") != (study.winners is not None):
        wants = "missing" if study.winners is None else f"given in mode {study.mode}"
        raise ConfigError("winners", wants, "winners and mode: confirm go together")
    for arm, point in (study.winners or {}).items():
        if arm not in study.arms:
            raise ConfigError(f"winners.{arm}", "not among the arms", "add it to arms")
        _check_inside(study.arm_space(arm), point, f"winners.{arm}")
    if study.winners is not None and set(study.winners) != set(study.arms):
        raise ConfigError("winners", "does not give a point for each arm", "add the missing arm")


def _check_inside(space: Space, point: Mapping[str, Any], key: str) -> None:
    for name, value in point.items():
        if name not in space.parameters:
            raise ConfigError(join_key(key, name), "unknown parameter", "name one of the space")
        if not space.parameters[name].contains(value):
            raise ConfigError(
                join_key(key, name), f"{show(value)} is outside the space", "widen it"
            )
    missing = [name for name in space.searched() if name not in point]
    if missing:
        raise ConfigError(key, f"misses {', '.join(missing)}", "give a value for each parameter")


def check_problems(study: Study) -> None:
    """Build a problem and a member at both ends of every parameter, so that a bad value is refused
    now rather than failing later; and refuse to compare different losses with each other."""
    losses = {study.problem(arm).loss for arm in study.arms}
    if len(losses) > 1 and not keys.higher_is_better(study.objective):
        mixed = f"{study.objective!r} of arms with different losses: {', '.join(sorted(losses))}"
        raise ConfigError("objective", mixed, "use validation_accuracy")
    for arm in study.arms:
        parameters = study.arm_space(arm).parameters
        middle = {name: parameter.at(0.5) for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            for value in [*parameter.grid(2), parameter.at(0.5)]:
                point = {**middle, name: value}
                problem = study.problem(arm, point)
                steps_per_epoch(problem)
                try:
                    study.member(point, 0, problem)
                except ConfigError as error:
                    raise error.inside("space.parameters") from None
                choose_engine(problem, study.engine, study.device)
                if study.early_stopping is not None:
                    check_rungs(study.early_stopping, problem)
                if study.record is not None:
                    study.record.check(problem, study.member(point, 0, problem).period)
