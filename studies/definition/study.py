"""The definition of a study, checked in full before anything starts.

The file is long because a study has many entries, each with its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from dynloss_core import keys
from dynloss_core.config import (
    ADDED_LATER,
    PLUGIN_DIGEST,
    ConfigError,
    OneOf,
    build,
    config_hash,
    to_dict,
)
from dynloss_core.data import DATA_SETS, DataConfig
from dynloss_core.models import MODELS, ModelConfig
from dynloss_core.plugins import Plugin, PluginTexts, changes_results
from dynloss_core.training import EngineName, Member, Problem, Training, steps_per_epoch
from search_spaces import Space
from search_spaces import load as load_space
from studies.definition.arm_design import ArmDesign
from studies.definition.arms import (
    Arm,
    Pair,
    against_reference,
    check_compared,
    check_names,
    compared_pairs,
    matched_name,
    named_arms,
    reference_of,
)
from studies.definition.checks import (
    check_block_sizes,
    check_mode,
    check_name,
    check_numbers,
    check_problems,
    check_spaces,
)
from studies.definition.early_stopping import EarlyStopping
from studies.definition.nested_keys import assign, merged
from studies.definition.options import BackendName, Budget, Resources, Spread, Storage
from studies.definition.plugin_files import with_plugins
from studies.definition.recording_options import Record
from studies.definition.samplers import SAMPLERS, SamplerName, samplers_of
from studies.definition.study_seeds import MAX_SEEDS_PER_PHASE, StudySeeds

__all__ = ["Mode", "Study"]

SCHEMA_VERSION = 1

Mode = Literal["map", "optimize", "confirm"]


@dataclass(frozen=True)
class Study:
    """The definition of a study.

    Args:
        name: the name of its folder and its MLflow run.
        schema: version of the file format.
        description: the question it asks.
        mode: `map` covers a grid or a Sobol sequence; `optimize` searches each arm, then confirms
            the winners on fresh seeds; `confirm` only does the latter, with given winners.
        data: data set.
        model: network.
        training: loss, batches, learning-rate schedule, dtype.
        budget: length of each run.
        space: the space of the dynamical arm; its baseline makes the static arm's.
        arms: arms to run: `dynamical` and `static`, or any number of them by name (see `arms`).
        reference: the arm that all others are compared with; by default `static`, else the first
            one that trains with the static loss.
        comparisons: further pairs of arms to compare, the one that may gain first.
        ladder: arms in the order of a ladder, each of which takes one thing more into account than
            the one before; neighbours are compared.
        trials_per_arm: points to try in each arm, failed ones included (`optimize`, or `map` with
            `sampler: sobol`).
        searches: how often the search, and the confirmation of its winners, is done in all, each
            time with other proposals, other seeds and, where the data have one split, another
            validation set: a verdict is then about searches, not about the winners of one.
        refine: further points of each arm around its best, at each scientific setting, ever closer
            to it (see `studies.search.refinement`); a number that is even.
        finalists: how many of the best points of each arm, at each scientific setting, are trained
            with further seeds before one is named the winner; 1 names the best of the search.
        finalist_seeds: number of these seeds; by default as many as confirm the winner.
        extensions: further points for each arm, one number per extension, each tried once all
            earlier ones are trained (see `dynloss run --extend`).
        seeds_per_point: networks trained at each point; both arms share the seeds.
        sampler: `tpe`, `random` or `gp` (a Gaussian process) to optimize; `grid` or `sobol` to map.
        grid: number of values on each axis of a grid, by parameter.
        confirm_seeds: number of fresh seeds for the winners.
        winners: point of each arm, in mode `confirm`.
        objective: static validation metric that winners are chosen by.
        equivalence_margin: largest difference in the objective, in its own unit, that would not
            matter; required, and set beforehand, for any claim that the arms are equivalent.
        spread: how pairs are expected to scatter; `--dry-run` says what the study can show with it.
        fails_below: accuracy on the test set below which a network counts as failed; by default
            half-way from chance to the median of the better arm.
        block_size: points trained together as one unit of scheduling. `auto` measures a few sizes
            before the first block, and takes the largest that fits into the memory, is about as
            fast as any, and leaves blocks for all machines.
        block_sizes: points per block of each arm, as `auto` measured them where the study began:
            proposals may depend on them, so the file in its folder has them. Leave it out.
        parallel_blocks: blocks of an arm in flight while TPE proposes more; proposals depend on it,
            so it is part of the definition.
        record: what to record of some runs beside the evaluations; None records nothing more.
        resources: the resources of one block.
        backend: `ray` trains blocks on a Ray cluster, `processes` in processes of this machine, and
            `inline` one after another in the process that was started; the tables are the same.
        engine: `auto` takes the fastest that can train the problem.
        scheduler: `fifo` hands blocks out in order. With an oscillating loss, a scheduler that
            compares trials at the same step compares different phases of their periods.
        early_stopping: rule that stops trials of the search that are worse than earlier ones,
            compared over whole periods (`optimize` only); None trains every trial to its end.
        storage: where the study is recorded.
        seed: the seed of the whole study.
        start_points: points to start each arm's search from, before those of its space; in a
            study's file, `points_from: [FOLDER, ...]` takes the winners of finished studies.
        plugins: files that define networks, data sets, losses, shapes or analyses of one's own (see
            `dynloss_core.plugins`); in a study's file, their paths. One that defines nothing but
            analyses may change at any time.
    """

    name: str
    data: Annotated[DataConfig, OneOf(DATA_SETS)]
    model: Annotated[ModelConfig, OneOf(MODELS)]
    budget: Budget
    space: Space
    schema: int = SCHEMA_VERSION
    description: str = ""
    mode: Mode = "optimize"
    training: Training = field(default_factory=Training)
    arms: tuple[str, ...] | dict[str, Arm] = ("dynamical", "static")
    reference: str | None = field(default=None, metadata=ADDED_LATER)
    comparisons: tuple[tuple[str, ...], ...] = field(default=(), metadata=ADDED_LATER)
    ladder: tuple[str, ...] = field(default=(), metadata=ADDED_LATER)
    trials_per_arm: int | None = None
    searches: int = field(default=1, metadata=ADDED_LATER)
    refine: int = field(default=0, metadata=ADDED_LATER)
    finalists: int = field(default=1, metadata=ADDED_LATER)
    finalist_seeds: int | None = field(default=None, metadata=ADDED_LATER)
    extensions: tuple[int, ...] = ()
    seeds_per_point: int = 4
    sampler: SamplerName | None = None
    grid: dict[str, int] | None = None
    confirm_seeds: int = 30
    winners: dict[str, dict[str, Any]] | None = None
    objective: keys.Objective = "validation_accuracy"
    equivalence_margin: float | None = None
    spread: Spread | None = field(default=None, metadata=ADDED_LATER)
    fails_below: float | None = field(default=None, metadata=ADDED_LATER)
    block_size: int | Literal["auto"] = 1
    block_sizes: dict[str, int] = field(default_factory=dict, metadata=ADDED_LATER)
    parallel_blocks: int = 2
    record: Record | None = None
    resources: Resources = field(default_factory=Resources)
    backend: BackendName = field(default="ray", metadata=ADDED_LATER)
    engine: EngineName = "auto"
    scheduler: Literal["fifo"] = "fifo"
    early_stopping: EarlyStopping | None = None
    storage: Storage = field(default_factory=Storage)
    seed: int = 0
    start_points: dict[str, tuple[dict[str, Any], ...]] = field(
        default_factory=dict, metadata=ADDED_LATER
    )
    plugins: tuple[Plugin, ...] = field(default=(), metadata=ADDED_LATER)

    def __reduce__(self) -> tuple[Any, ...]:
        """Its plug-ins travel with it, and are loaded before anything that they define."""
        return _empty, (PluginTexts(self.plugins),), self.__dict__

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ConfigError(
                "schema", f"version {self.schema} is unknown", f"write schema: {SCHEMA_VERSION}"
            )
        check_name(self.name)
        for key in ("data", "model"):
            digest = getattr(getattr(self, key), PLUGIN_DIGEST, None)
            if digest is not None and digest not in {plugin.digest for plugin in self.plugins}:
                raise ConfigError(key, "is of a plug-in that is not named", "add it to `plugins`")
        check_numbers(self, max_seeds=MAX_SEEDS_PER_PHASE)
        check_names(self.arms)
        check_block_sizes(self)
        check_compared(self.arms, self.reference, self.comparisons, self.ladder)
        check_spaces(self)
        if self.sampler is None:
            object.__setattr__(self, "sampler", samplers_of(self.mode)[0])
        check_mode(self)
        check_problems(self)

    def with_(self, **changes: Any) -> Study:
        """The same study with entries replaced.

        A mapping is laid over the entry, as a profile is; keys may be dotted, as with `--set`. A
        network or a data set of another name takes the place of the whole entry.

        Args:
            changes: values by key, plain or built: `budget={"total": 2000}`, `model=Net(width=4)`
                of a class of one's own that was imported from a file, `plugins=["nets.py"]`,
                `space="spirals-mlp"`, `**{"budget.total": 2000}`.

        Raises:
            ConfigError: as for a file.
        """
        document = to_dict(self)
        for key, given in changes.items():
            if key == "space" and isinstance(given, str):
                given = load_space(given)
            old = document.get(key)
            if key in ("data", "model") and is_dataclass(given):
                document[key] = given  # with the plug-in that defines it
            elif is_dataclass(given) and not isinstance(given, type):
                assign(document, key, to_dict(given))
            elif not (isinstance(old, Mapping) and isinstance(given, Mapping)):
                assign(document, key, given)
            elif key in ("data", "model") and given.get("name", old["name"]) != old["name"]:
                document[key] = given
            else:
                document[key] = merged(old, given)
        document = with_plugins(document, Path(), "with_")
        data, before = document["data"], to_dict(self.data)
        held = data.get("contents") if isinstance(data, dict) and data != before else None
        if held is not None and held == before.get("contents"):
            document["data"] = {**data, "contents": None}  # of the table as it was read before
        return build(Study, document, source="with_")

    @property
    def device(self) -> str:
        """The device that its blocks train on."""
        return "cuda" if self.resources.gpus > 0 else "cpu"

    @property
    def hash(self) -> str:
        """Digest of everything that the results depend on, except the number of threads and CPU or
        GPU, which only round them differently."""
        return config_hash(self.essence)

    @property
    def essence(self) -> Study:
        """The study without the entries that change none of its results."""
        return replace(
            self,
            description="",
            spread=None,
            space=self.space.essence,
            storage=Storage(),
            resources=Resources(),
            backend="ray",
            plugins=tuple(plugin for plugin in self.plugins if changes_results(plugin)),
        )

    @cached_property
    def named_arms(self) -> dict[str, Arm]:
        """The arms by name, whichever form the file has."""
        return named_arms(self.arms)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The arms to compare: every other one with the reference, pairs that are asked for, and
        the neighbours of the ladder."""
        reference = reference_of(self.arms, self.reference)
        return compared_pairs(self.arms, reference, self.comparisons, self.ladder)

    @cached_property
    def matched_arms(self) -> dict[str, Pair]:
        """The third arm of fresh seeds, by name, of each pair with the study's reference: the
        reference, at the settings that its own search shares with the winner of the pair's arm.
        Which of two losses is better must not hang on how well each was searched. Where points are
        given there is none, and none where an arm lacks what the reference searches."""
        if self.mode == "confirm":
            return {}
        return {
            matched_name(pair): pair
            for pair in against_reference(self.pairs)
            if set(self.arm_space(pair.reference).searched())
            <= set(self.arm_space(pair.arm).parameters)
        }

    @property
    def confirmed_arms(self) -> tuple[str, ...]:
        """The arms that fresh seeds are trained for."""
        return (*self.arms, *self.matched_arms)

    def options(self, arm: str) -> Arm:
        """How an arm, or a matched one, differs from the study."""
        if arm in self.named_arms:
            return self.named_arms[arm]
        return self.named_arms[self.matched_arms[arm].reference]

    def arm_space(self, arm: str) -> Space:
        """The space that an arm is searched over."""
        space = self.options(arm).space(self.space, arm)
        given = self.start_points.get(arm)
        return space.starting_from(given) if given else space

    def trials_of(self, arm: str) -> ArmDesign:
        """The trials of an arm's search."""
        if arm not in self._trials:
            self._trials[arm] = ArmDesign(self, arm)
        return self._trials[arm]

    @cached_property
    def _trials(self) -> dict[str, ArmDesign]:
        """Those that were asked for, by arm."""
        return {}

    @property
    def seeds(self) -> StudySeeds:
        """Its seeds."""
        return StudySeeds(self)

    @property
    def scientific(self) -> tuple[str, ...]:
        """Searched parameters that change the problem and that the study asks about."""
        parameters = self.space.parameters
        return tuple(
            name
            for name in self.space.searched()
            if "." in name and parameters[name].role == "scientific"
        )

    @property
    def is_laid_out(self) -> bool:
        """Whether the blocks of its searches are known, or `block_size: auto` was measured."""
        searched = self.mode != "confirm" and self.block_size == "auto"
        return not searched or bool(self.block_sizes)

    @property
    def proposed(self) -> int:
        """Number of points that each arm may try without a grid, extensions included."""
        return (self.trials_per_arm or 0) + sum(self.extensions)

    def extended(self, trials: int) -> Study:
        """The same study with more trials in each arm.

        Raises:
            ConfigError: if its mode or sampler has no room for more.
        """
        takes_grid = SAMPLERS[self.sampler].takes_grid
        if self.mode == "confirm" or takes_grid:
            problem = f"a study of mode {self.mode} with a {self.sampler} has no more trials"
            if self.mode == "confirm":
                problem = "a study of mode confirm has no search"
            remedy = "run a finer grid under another name" if takes_grid else "search first"
            raise ConfigError("--extend", problem, remedy)
        return replace(self, extensions=(*self.extensions, trials))

    def searched_again(self, searches: int) -> Study:
        """The same study with further searches.

        Raises:
            ConfigError: if it searches nothing.
        """
        try:
            return replace(self, searches=self.searches + searches)
        except ConfigError as error:
            raise ConfigError("--extend-searches", error.problem, error.remedy) from None

    def search(self, number: int) -> Study:
        """One of its searches, from 1, as a study of its own: with another seed, and where the data
        have one split, with another part of them for validation. The first is the study itself."""
        if self.searches == 1:
            return self
        known = self._searches.get(number)
        if known is None:
            data: Any = self.data
            if number > 1 and hasattr(data, "validation_seed"):
                first = data.split_seed if data.validation_seed is None else data.validation_seed
                data = replace(data, validation_seed=first + number - 1)
            known = replace(self, data=data, seed=self.seed + number - 1, searches=1)
            self._searches[number] = known
        return known

    @cached_property
    def _searches(self) -> dict[int, Study]:
        """Those that were asked for, by number."""
        return {}

    @property
    def finals(self) -> int:
        """The number of the finals that name the winners: a search that is extended has others."""
        return 1 + len(self.extensions)

    def confirms(self) -> bool:
        """Whether the winners are rerun on fresh seeds."""
        return self.mode != "map"

    def has_own_round(self) -> bool:
        """Whether the definition itself asks for a confirmation; the rounds of an extended study
        are kept in its folder."""
        return self.confirms() and not self.extensions

    def members(self) -> int:
        """Networks trained in all, not counting rounds of confirmation kept in the folder."""
        members = sum(self.trials_of(arm).count for arm in self.arms) * self.seeds_per_point
        members += self.finals * self._finalists() * len(self.seeds.finals)
        members += len(self.confirmed_arms) * self.confirm_seeds if self.has_own_round() else 0
        return self.searches * members

    def _finalists(self) -> int:
        """Number of points in one of its finals."""
        if self.finalists == 1:
            return 0
        return sum(len(self.trials_of(arm).settings) for arm in self.arms) * self.finalists

    def problem(self, arm: str, point: Mapping[str, Any] | None = None) -> Problem:
        """The problem of an arm, with a point's dotted parameters set.

        Raises:
            ConfigError: if a dotted parameter names nothing, or has a value its owner refuses.
        """
        dotted = {name: value for name, value in (point or {}).items() if "." in name}
        known = self._problems.get((arm, repr(dotted)))
        if known is None:
            known = self._problems[arm, repr(dotted)] = self._problem(arm, dotted)
        return known

    @cached_property
    def _problems(self) -> dict[tuple[str, str], Problem]:
        """Those that were asked for, by arm and dotted parameters."""
        return {}

    def _problem(self, arm: str, dotted: Mapping[str, Any]) -> Problem:
        own: dict[str, Any] = {"data": self.data, "model": self.model}
        parts = {name: to_dict(part) for name, part in own.items()}
        changed = self.options(arm).training
        parts["training"] = merged(to_dict(self.training), changed)
        for name, value in dotted.items():
            owner, _, leaf = name.partition(".")
            if owner not in parts:
                raise ConfigError(name, "names nothing", f"start with {', '.join(parts)}")
            assign(parts[owner], leaf, value)
        training = parts.pop("training")
        try:
            same = {  # by its own class: a plug-in's name may mean another text by now
                name: build(type(own[name]), part, key=name)
                for name, part in parts.items()
                if part["name"] == own[name].name
            }
            problem = build(Problem, {**parts, **same, **training})
        except ConfigError as error:
            is_part = error.key.partition(".")[0] in parts
            place = "" if is_part else f"arms.{arm}.training" if changed else "training"
            raise error.inside(place) from None
        epoch = steps_per_epoch(problem) if self.budget.unit == "epochs" else 1
        return replace(
            problem,
            steps=self.budget.total * epoch,
            static_tail=self.budget.static_tail * epoch,
            evaluate_every=self.budget.evaluate_every * epoch,
            plugins=tuple(plugin.digest for plugin in self.plugins),
        )

    def member(self, point: Mapping[str, Any], seed: int, problem: Problem) -> Member:
        """The member with a given seed at a point; a period in epochs becomes steps."""
        values = {name: value for name, value in point.items() if name in keys.MEMBER_PARAMETERS}
        period = values.get(keys.PERIOD)
        if period is not None and self.space.parameters[keys.PERIOD].unit == "epochs":
            values[keys.PERIOD] = round(period * steps_per_epoch(problem))
        return build(Member, {**values, "seed": seed})


def _empty(_: None) -> Study:
    """A study whose entries follow, once its plug-ins are loaded."""
    return object.__new__(Study)
