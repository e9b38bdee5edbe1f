"""What a study is, checked in full before anything starts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dynloss_core import keys
from dynloss_core.config import ConfigError, build, config_hash, join_key, show, to_dict
from dynloss_core.data import DataConfig
from dynloss_core.losses import LossName
from dynloss_core.models import ModelConfig
from dynloss_core.training import (
    Augmentation,
    DType,
    EngineName,
    LearningRateSchedule,
    Member,
    Problem,
    choose_engine,
    steps_per_epoch,
)
from search_spaces import Point, Space
from studies.definition.early_stopping import EarlyStopping, check_rungs
from studies.definition.recording_options import Record
from studies.definition.redaction import hide_password
from studies.definition.samplers import SAMPLERS, SamplerName, samplers_of
from studies.definition.sqlite import sqlite_path, sqlite_url

__all__ = [
    "Arm",
    "Budget",
    "Resources",
    "Storage",
    "Study",
    "Training",
    "absolute_store",
    "assign",
]

SCHEMA_VERSION = 1

Arm = Literal["dynamical", "static"]
Mode = Literal["map", "optimize", "confirm"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# beside the studies' folders; some file systems tell no capitals
_RESERVED = re.compile(r"artifacts|across|mlflow(\..*)?", re.IGNORECASE)
_SEEDS_A_STUDY = 100_000
_MOST_TRIALS = 1_000_000
_FIRST_FRESH_SEED = 50_000


@dataclass(frozen=True)
class Training:
    """How every member is trained; see `dynloss_core.training.Problem` for the meanings."""

    loss: LossName = "cross_entropy"
    batch_size: int | None = None
    nesterov: bool = False
    learning_rate_schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    dtype: DType = "float32"


@dataclass(frozen=True)
class Budget:
    """Length of a run, in optimiser steps or in epochs.

    Args:
        total: length of the run.
        static_tail: how much of its end trains on the static loss.
        evaluate_every: distance between two evaluations.
        unit: of all three.
    """

    total: int
    static_tail: int
    evaluate_every: int
    unit: Literal["steps", "epochs"] = "steps"

    def __post_init__(self) -> None:
        for key in ("total", "evaluate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(key, f"{getattr(self, key)} is below 1", "use >= 1")
        if not 0 <= self.static_tail <= self.total:
            problem = f"{self.static_tail} is not within the run of {self.total} {self.unit}"
            raise ConfigError("static_tail", problem, f"use a number from 0 to {self.total}")


@dataclass(frozen=True)
class Resources:
    """What one block asks of the cluster; fractions are allowed.

    Args:
        cpu: CPUs; also the number of threads.
        gpu: GPUs; above 0 the block trains on CUDA.
    """

    cpu: float = 1.0
    gpu: float = 0.0

    def __post_init__(self) -> None:
        for key, smallest in (("cpu", 0.0), ("gpu", 0.0)):
            if getattr(self, key) < smallest:
                raise ConfigError(key, f"{getattr(self, key)} is negative", "use >= 0")
        if self.cpu == 0 and self.gpu == 0:
            raise ConfigError("cpu", "a block needs something to run on", "use cpu: 1")
        if self.gpu > 1 and self.gpu != int(self.gpu):
            raise ConfigError("gpu", f"{self.gpu} is no fraction of one GPU", "use <= 1, or whole")


@dataclass(frozen=True)
class Storage:
    """Where a study is recorded.

    Args:
        tracking_uri: of MLflow; by default an SQLite file in the output folder. The path of
            another SQLite file is made absolute here, so that it holds wherever the study goes on.
        experiment: MLflow experiment.
    """

    tracking_uri: str | None = None
    experiment: str = "dynloss"

    def __post_init__(self) -> None:
        if self.tracking_uri is not None and hide_password(self.tracking_uri) != self.tracking_uri:
            raise ConfigError(
                "tracking_uri",
                f"{hide_password(self.tracking_uri)} holds a password, and study files are shared",
                "leave it out and set MLFLOW_TRACKING_URI",
            )
        if self.tracking_uri is not None:
            object.__setattr__(self, "tracking_uri", absolute_store(self.tracking_uri))


@dataclass(frozen=True)
class Study:
    """A study.

    Args:
        name: of its folder and its MLflow run.
        schema: version of the file format.
        description: the question it asks.
        mode: `map` covers a grid or a Sobol sequence; `optimize` searches each arm, then confirms
            the winners on fresh seeds; `confirm` only does the latter, with given winners.
        data: data set.
        model: network.
        training: loss, batches, learning-rate schedule, dtype.
        budget: length of each run.
        space: of the dynamical arm; its baseline makes the static arm's.
        arms: which arms to run.
        trials_per_arm: points to try in each arm, failed ones included (`optimize`, or `map` with
            `sampler: sobol`).
        extensions: points that each arm may try beyond those, once all before are known (see
            `dynloss run --extend`); one number an extension.
        seeds_per_point: networks trained at each point; both arms share the seeds.
        sampler: `tpe` or `random` to optimize; `grid` or `sobol` to map.
        grid: values on each axis of a grid, by parameter.
        confirm_seeds: fresh seeds for the winners.
        winners: in mode `confirm`, the point of each arm.
        objective: static validation metric that chooses.
        equivalence_margin: the largest difference in the objective that would not matter, in its
            own unit; a claim that both arms are equivalent needs it, and needs it set beforehand.
        block_size: points trained together as one unit of scheduling.
        parallel_blocks: blocks of an arm in flight while TPE proposes more; a part of the
            definition, because proposals depend on it.
        record: what to keep of each run beside its evaluations; None keeps no more.
        resources: of one block.
        engine: `auto` takes the fastest that can train the problem.
        scheduler: `fifo` hands blocks out in their order. With an oscillating loss, a scheduler
            that compares trials at one step compares different phases of their periods.
        early_stopping: gives up trials of the search that are worse than earlier ones, compared
            over whole periods (`optimize` only); None trains every trial to its end.
        storage: where it is recorded.
        seed: of the whole study.
    """

    name: str
    data: DataConfig
    model: ModelConfig
    budget: Budget
    space: Space
    schema: int = SCHEMA_VERSION
    description: str = ""
    mode: Mode = "optimize"
    training: Training = field(default_factory=Training)
    arms: tuple[Arm, ...] = ("dynamical", "static")
    trials_per_arm: int | None = None
    extensions: tuple[int, ...] = ()
    seeds_per_point: int = 4
    sampler: SamplerName | None = None
    grid: dict[str, int] | None = None
    confirm_seeds: int = 20
    winners: dict[str, dict[str, Any]] | None = None
    objective: keys.Objective = "validation_accuracy"
    equivalence_margin: float | None = None
    block_size: int = 1
    parallel_blocks: int = 2
    record: Record | None = None
    resources: Resources = field(default_factory=Resources)
    engine: EngineName = "auto"
    scheduler: Literal["fifo"] = "fifo"
    early_stopping: EarlyStopping | None = None
    storage: Storage = field(default_factory=Storage)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ConfigError(
                "schema", f"version {self.schema} is unknown", f"write schema: {SCHEMA_VERSION}"
            )
        if not _NAME.fullmatch(self.name):
            remedy = "use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
            raise ConfigError("name", f"{show(self.name)} cannot name a folder", remedy)
        if _RESERVED.fullmatch(self.name):
            problem = f"{show(self.name)} is what the output folder calls something else"
            raise ConfigError("name", problem, f"use another, such as {self.name}-study")
        for key, smallest in (
            ("seeds_per_point", 1),
            ("confirm_seeds", 2),
            ("block_size", 1),
            ("parallel_blocks", 1),
            ("seed", 0),
        ):
            if getattr(self, key) < smallest:
                raise ConfigError(key, f"{getattr(self, key)} is below {smallest}", "raise it")
        for key in ("seeds_per_point", "confirm_seeds"):
            if getattr(self, key) > _FIRST_FRESH_SEED:
                raise ConfigError(
                    key, f"{getattr(self, key)} exceeds {_FIRST_FRESH_SEED}", "lower it"
                )
        if self.equivalence_margin is not None and not self.equivalence_margin > 0:
            raise ConfigError(
                "equivalence_margin", f"{self.equivalence_margin} is not above 0", "use > 0"
            )
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ConfigError("arms", f"{list(self.arms)}", "list dynamical, static, or both, once")
        self._check_arms()
        self._check_mode()
        self._check_problems()

    @property
    def device(self) -> str:
        """Where its blocks train."""
        return "cuda" if self.resources.gpu > 0 else "cpu"

    @property
    def hash(self) -> str:
        """Names the study by everything its results depend on, but for what only rounds them
        differently: how many threads, and CPU or GPU."""
        return config_hash(self.essence)

    @property
    def essence(self) -> Study:
        """The study less what changes none of its results."""
        return replace(
            self,
            description="",
            space=self.space.essence,
            storage=Storage(),
            resources=Resources(),
        )

    def arm_space(self, arm: str) -> Space:
        """The space that an arm is searched over."""
        return self.space.static() if arm == keys.STATIC else self.space

    def design(self, arm: str) -> list[Point] | None:
        """All points of an arm if they are fixed beforehand; None if they are proposed."""
        design = SAMPLERS[self.sampler].design
        if design is None:
            return None
        return design(self.arm_space(arm), self.grid or {}, self._proposed, self.seed)

    def trials(self, arm: str) -> int:
        """Points of the search of an arm."""
        if self.mode == "confirm":
            return 0
        design = self.design(arm)
        return len(design) if design is not None else self._proposed

    @property
    def _proposed(self) -> int:
        return (self.trials_per_arm or 0) + sum(self.extensions)

    def search_blocks(self, arm: str) -> list[range]:
        """The trials of each block of the search of an arm; an extension begins a block."""
        last = self.trials(arm)
        ends = [last - sum(self.extensions[k:]) for k in range(len(self.extensions) + 1)]
        return [
            range(first, min(first + self.block_size, end))
            for begin, end in itertools.pairwise([0, *ends])
            for first in range(begin, end, self.block_size)
        ]

    def extended(self, trials: int) -> Study:
        """The same study with more trials in each arm.

        Raises:
            ConfigError: if its design leaves no room for more.
        """
        takes_grid = SAMPLERS[self.sampler].takes_grid
        if self.mode == "confirm" or takes_grid:
            problem = f"a study of mode {self.mode} with a {self.sampler} has no more trials"
            if self.mode == "confirm":
                problem = "a study of mode confirm has no search"
            remedy = "give a finer grid another name" if takes_grid else "search first"
            raise ConfigError("--extend", problem, remedy)
        return replace(self, extensions=(*self.extensions, trials))

    def search_seeds(self) -> list[int]:
        """Seeds of the search; both arms and all points share them."""
        return [self.seed * _SEEDS_A_STUDY + index for index in range(self.seeds_per_point)]

    @property
    def first_fresh_seed(self) -> int:
        """The first seed that no search of this study has seen."""
        return self.seed * _SEEDS_A_STUDY + _FIRST_FRESH_SEED

    @property
    def fresh_seeds_in_all(self) -> int:
        """How many there are."""
        return _SEEDS_A_STUDY - _FIRST_FRESH_SEED

    def fresh_seeds(self) -> list[int]:
        """The fresh seeds of the study's own confirmation."""
        return [self.first_fresh_seed + index for index in range(self.confirm_seeds)]

    def confirms(self) -> bool:
        """Whether the winners are rerun on fresh seeds."""
        return self.mode != "map"

    def has_own_round(self) -> bool:
        """Whether its confirmation follows from the definition alone; the rounds of an extended
        study are in its folder."""
        return self.confirms() and not self.extensions

    def members(self) -> int:
        """Networks trained in all, but for the rounds of confirmation in the study's folder."""
        searched = sum(self.trials(arm) for arm in self.arms) * self.seeds_per_point
        return searched + (len(self.arms) * self.confirm_seeds if self.has_own_round() else 0)

    def problem(self, point: Mapping[str, Any] | None = None) -> Problem:
        """The problem at a point: the study's, with the point's dotted parameters in place.

        Raises:
            ConfigError: if a dotted parameter names nothing, or has a value its owner refuses.
        """
        parts = {"data": to_dict(self.data), "model": to_dict(self.model)}
        parts["training"] = to_dict(self.training)
        for name, value in (point or {}).items():
            if "." in name:
                owner, _, leaf = name.partition(".")
                if owner not in parts:
                    raise ConfigError(name, "names nothing", f"start with {', '.join(parts)}")
                assign(parts[owner], leaf, value)
        training = parts.pop("training")
        try:
            problem = build(Problem, {**parts, **training})
        except ConfigError as error:
            prefix = "" if error.key.partition(".")[0] in parts else "training"
            raise error.inside(prefix) from None
        epoch = steps_per_epoch(problem) if self.budget.unit == "epochs" else 1
        return replace(
            problem,
            steps=self.budget.total * epoch,
            static_tail=self.budget.static_tail * epoch,
            evaluate_every=self.budget.evaluate_every * epoch,
        )

    def member(self, point: Mapping[str, Any], seed: int, problem: Problem) -> Member:
        """The member of a seed at a point of the problem; a period in epochs becomes steps."""
        values = {name: value for name, value in point.items() if name in keys.MEMBER_PARAMETERS}
        period = values.get(keys.PERIOD)
        if period is not None and self.space.parameters[keys.PERIOD].unit == "epochs":
            values[keys.PERIOD] = round(period * steps_per_epoch(problem))
        return build(Member, {**values, "seed": seed})

    def _check_mode(self) -> None:
        allowed = samplers_of(self.mode)
        if self.sampler is None:
            object.__setattr__(self, "sampler", allowed[0])
        if self.sampler not in allowed:
            choices = " or ".join(allowed)
            raise ConfigError("sampler", f"{self.sampler!r} in mode {self.mode}", f"use {choices}")
        takes_grid = SAMPLERS[self.sampler].takes_grid
        needs_trials = self.mode != "confirm" and not takes_grid
        if needs_trials and (self.trials_per_arm is None or self.trials_per_arm < 1):
            problem = "missing" if self.trials_per_arm is None else f"{self.trials_per_arm} < 1"
            raise ConfigError("trials_per_arm", problem, "say how many points each arm may try")
        if self.extensions and (not needs_trials or min(self.extensions) < 1):
            problem = f"{list(self.extensions)} in mode {self.mode} with sampler {self.sampler}"
            raise ConfigError("extensions", problem, "leave it out, or use numbers >= 1")
        if self._proposed > _MOST_TRIALS:
            problem = f"{self._proposed} exceeds {_MOST_TRIALS:,}"
            raise ConfigError("trials_per_arm", problem, "lower it")
        if takes_grid:
            if self.grid is None:
                raise ConfigError("grid", "missing", "give the number of values of each parameter")
            self.space.grid(self.grid)
        elif self.grid is not None:
            raise ConfigError("grid", f"given with sampler {self.sampler}", "use sampler: grid")
        if (self.mode == "confirm") != (self.winners is not None):
            wants = "missing" if self.winners is None else f"given in mode {self.mode}"
            raise ConfigError("winners", wants, "winners and mode: confirm go together")
        for arm, point in (self.winners or {}).items():
            if arm not in self.arms:
                raise ConfigError(f"winners.{arm}", "not among the arms", "add it to arms")
            _check_inside(self.arm_space(arm), point, f"winners.{arm}")
        if self.winners is not None and set(self.winners) != set(self.arms):
            raise ConfigError("winners", "not one point for each arm", "add the missing arm")
        if self.early_stopping is not None and self.mode != "optimize":
            reason = {
                "map": "a map must know every point at its end",
                "confirm": "every fresh seed counts",
            }[self.mode]
            problem = f"given in mode {self.mode}: {reason}"
            raise ConfigError("early_stopping", problem, "leave it out, or use mode: optimize")

    def _check_arms(self) -> None:
        """Refuse a space whose arms would not be what they are called."""
        needed = [keys.LEARNING_RATE]
        needed += [keys.PERIOD, keys.AMPLITUDE] if keys.DYNAMICAL in self.arms else []
        for name in needed:
            if name not in self.space.parameters:
                key = f"space.parameters.{name}"
                raise ConfigError(key, "missing", "search it, or give it as a constant")
        if keys.STATIC in self.arms:
            constants = self.space.static().constants()
            if constants.get(keys.AMPLITUDE) != 1 or keys.PERIOD in self.space.static().parameters:
                raise ConfigError(
                    "space.baseline",
                    "makes no static arm",
                    "write baseline: {fix: {amplitude: 1.0}, drop: [period]}",
                )
        for name, parameter in self.space.parameters.items():
            if self.mode == "optimize" and "." in name and parameter.role == "scientific":
                raise ConfigError(
                    f"space.parameters.{name}.role",
                    "'scientific': each arm would pick its own and the verdict compare the two",
                    "use mode: map, or role: nuisance to tune it for each arm",
                )

    def _check_problems(self) -> None:
        """Build a problem and a member at every end of every parameter, so that nothing fails
        later for a value that could have been refused now."""
        for arm in self.arms:
            parameters = self.arm_space(arm).parameters
            middle = {name: each.at(0.5) for name, each in parameters.items()}
            for name, parameter in parameters.items():
                for value in [*parameter.grid(2), parameter.at(0.5)]:
                    point = {**middle, name: value}
                    problem = self.problem(point)
                    steps_per_epoch(problem)
                    if problem.augmentation.active:
                        problem.augmentation.check(problem.data.input_shape)
                    try:
                        self.member(point, 0, problem)
                    except ConfigError as error:
                        raise error.inside("space.parameters") from None
                    choose_engine(problem, self.engine, self.device)
                    if self.early_stopping is not None:
                        check_rungs(self.early_stopping, problem)
                    if self.record is not None:
                        self.record.check(problem, self.member(point, 0, problem).period)


def absolute_store(uri: str) -> str:
    """The address of a store, with the path of an SQLite file made absolute."""
    path = sqlite_path(uri)
    if path is None or path.is_absolute() or str(path) in (".", ":memory:"):
        return uri
    _, mark, query = uri.partition("?")
    return f"{sqlite_url(path)}{mark}{query}"


def assign(document: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted path in nested mappings, making what is missing on the way."""
    *parents, leaf = key.split(".")
    for index, parent in enumerate(parents):
        below = document.setdefault(parent, {})
        if below is None:
            below = document[parent] = {}
        if not isinstance(below, dict):
            where = ".".join(parents[: index + 1])
            raise ConfigError(
                where, f"{show(below)} has no keys", f"set {where} as a whole", "--set"
            )
        document = below
    document[leaf] = value


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
