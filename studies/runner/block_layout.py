"""Blocks as large as it pays: `block_size: auto` and `resources.gpu: auto`, measured before the
first block and kept in the study's folder, so that a resumed study has the same plan.

The size of blocks is part of the definition from then on, as proposals may depend on it. How many
blocks share a GPU changes no result: it stands in the study's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dynloss_core.config import ConfigError, reason_of
from studies.blocks.block_probe import Probe, ProbeResult, probed, representatives
from studies.blocks.block_size import (
    blocks_per_gpu,
    evened,
    largest_fast,
    memory_of,
    most_points,
)
from studies.cluster.backends import backend_of
from studies.cluster.capacity import Capacity, blocks_on_gpu, node_of
from studies.definition.study import Study
from studies.messages import say
from studies.storage.stored_study import StoredStudy

__all__ = [
    "Call",
    "Layout",
    "blocks_side_by_side",
    "laid_out",
    "largest_blocks",
    "lay_out",
    "layout_tags",
    "needs_layout",
]

Call = Callable[[Study, Callable[[], Any]], Any]
"""Calls a function where a study's blocks are trained (see `Backend.call`)."""

_LAYOUT = "layout"
_MIB = 2**20


@dataclass(frozen=True)
class Layout:
    """The blocks of a study, laid out.

    Args:
        study: the study with them: `block_sizes`, and `resources.gpu` as a number.
        measured: what was measured, by arm.
    """

    study: Study
    measured: Mapping[str, ProbeResult] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """What was chosen, and why, in a few words."""
        alike: dict[tuple[int, int], list[str]] = {}
        for arm, size in self.study.block_sizes.items():
            alike.setdefault((size, id(self.measured.get(arm))), []).append(arm)
        for (size, _), arms in alike.items():
            line = f"{_points(size)} of {' and '.join(arms)} per block"
            known = self.measured.get(arms[0])
            if known is None:
                yield f"{line}: larger ones would be too few"
                continue
            tried = [
                f"{cost.networks} {'network' if cost.networks == 1 else 'networks'} "
                f"{1e6 * cost.seconds:.3g} µs, {cost.memory / _MIB:.0f} MiB"
                for cost in known.sizes
            ]
            room = f"of {known.memory / _MIB:.0f} MiB for a block"
            yield f"{line}: per step and network, {'; '.join(tried) or 'too large'}, {room}"
        if 0 < self.study.resources.gpus < 1:
            yield f"{blocks_on_gpu(self.study)} blocks share a GPU"

    def record(self) -> dict[str, Any]:
        """What the study's state keeps."""
        return {
            "block_sizes": dict(self.study.block_sizes),
            "gpu": self.study.resources.gpus,
            "measured": {
                arm: {
                    "memory": result.memory,
                    "sizes": [
                        {"networks": cost.networks, "seconds": cost.seconds, "memory": cost.memory}
                        for cost in result.sizes
                    ],
                }
                for arm, result in self.measured.items()
            },
        }


def needs_layout(study: Study) -> bool:
    """Whether something is left to `auto`."""
    return not study.is_laid_out or study.resources.gpu == "auto"


def laid_out(stored: StoredStudy, capacity: Capacity) -> StoredStudy:
    """The study with its blocks laid out, as its folder has them, else measured now and kept.

    Args:
        stored: the study.
        capacity: what machines have.

    Raises:
        ConfigError: if a block cannot be measured.
    """
    study = stored.study
    if not needs_layout(study):
        return stored
    share = stored.state.get(_LAYOUT, {}).get("gpu")
    if not study.is_laid_out or share is None:
        layout = lay_out(study, capacity, backend_of(study).call)
        for line in layout.lines():
            say(f"blocks: {line}")
        if not study.is_laid_out:
            stored = stored.with_definition(replace(study, block_sizes=layout.study.block_sizes))
        stored = stored.with_state(**{_LAYOUT: layout.record()})
        share = layout.study.resources.gpus
    if study.resources.gpu != "auto":
        return stored
    resources = replace(study.resources, gpu=share)
    return replace(stored, study=replace(stored.study, resources=resources))


def layout_tags(stored: StoredStudy) -> dict[str, str]:
    """The layout as tags of a result; none where nothing was left to `auto`."""
    layout = stored.state.get(_LAYOUT)
    if not layout:
        return {}
    tags = {f"block_size.{arm}": str(size) for arm, size in layout["block_sizes"].items()}
    if 0 < layout["gpu"] < 1:
        tags["blocks_per_gpu"] = str(round(1 / layout["gpu"]))
    return tags


def lay_out(study: Study, capacity: Capacity, call: Call) -> Layout:
    """Lay out the blocks of a study.

    Args:
        study: the study, with something left to `auto`.
        capacity: what machines have.
        call: calls the probe where blocks are trained.

    Raises:
        ConfigError: if a block cannot be measured.
    """
    most = largest_blocks(study, capacity)
    measured: dict[str, ProbeResult] = {}
    if study.resources.gpu == "auto" or any(size > 1 for size in most.values()):
        measured = _measured(study, capacity, most, call)
    if not study.is_laid_out:
        sizes = {}
        for arm in study.arms:
            chosen = _chosen_points(study, measured[arm]) if arm in measured else 1
            sizes[arm] = evened(min(chosen, most[arm]), study.trials_of(arm).count)
        study = replace(study, block_sizes=sizes)
    if study.resources.gpu == "auto":
        share = 1 / _blocks_per_gpu(study, capacity, measured)
        study = replace(study, resources=replace(study.resources, gpu=share))
    return Layout(study, measured)


def blocks_side_by_side(study: Study) -> int:
    """Number of blocks that may be trained at once, whatever machines there are."""
    searching = study.searches * sum(len(study.trials_of(arm).blocks) for arm in study.arms)
    if not searching:
        return study.searches * len(study.confirmed_arms)
    if any(_waits(study, arm) for arm in study.arms):  # for results
        return min(searching, study.searches * len(study.arms) * study.parallel_blocks)
    return searching


def largest_blocks(study: Study, capacity: Capacity) -> dict[str, int]:
    """The most points that a block of each arm may have, so that there are blocks for all."""
    return {arm: _most_points(study, arm, capacity) for arm in study.arms}


def _waits(study: Study, arm: str) -> bool:
    """Whether later blocks of an arm depend on the results of earlier ones."""
    return study.early_stopping is not None or study.trials_of(arm).design is None


def _most_points(study: Study, arm: str, capacity: Capacity) -> int:
    """The most points that a block of an arm may have."""
    if study.mode == "confirm":
        return 1
    trials = study.trials_of(arm)
    if study.is_laid_out:
        return min(trials.block_size, trials.count)
    in_all = study.searches * sum(study.trials_of(each).count for each in study.arms)
    workers = backend_of(study).parallel_blocks(study, capacity)
    waits = _waits(study, arm)
    return most_points(trials.count, in_all, workers, study.parallel_blocks, waits=waits)


def _measured(
    study: Study, capacity: Capacity, most: Mapping[str, int], call: Call
) -> dict[str, ProbeResult]:
    """What was measured, by arm; arms that train alike are measured once."""
    alike: dict[Any, list[str]] = {}
    for arm in study.arms:
        problems = tuple(study.problem(arm, point) for point in representatives(study, arm))
        alike.setdefault(problems, []).append(arm)
    seeds = study.seeds.fresh if study.mode == "confirm" else study.seeds.search
    at_once = _sharing_memory(study, capacity)
    probes = [
        Probe(arms[0], tuple(seeds), max(most[arm] for arm in arms), at_once)
        for arms in alike.values()
    ]
    threads = max(1, int(min(study.resources.cpu, node_of(capacity)["CPU"])))
    try:
        results = call(study, partial(probed, study, probes, threads))
    except ConfigError:
        raise
    except Exception as error:
        problem = f"auto cannot be measured: {type(error).__name__}: {reason_of(error)}"
        key = "resources.gpu" if study.is_laid_out else "block_size"
        raise ConfigError(key, problem, "give a number") from error
    return {
        arm: result for arms, result in zip(alike.values(), results, strict=True) for arm in arms
    }


def _sharing_memory(study: Study, capacity: Capacity) -> float:
    """Number of blocks that share the memory of a machine, or of a GPU."""
    if study.device == "cuda":
        return float(blocks_on_gpu(study))
    return float(backend_of(study).parallel_blocks(study, node_of(capacity)))


def _chosen_points(study: Study, result: ProbeResult) -> int:
    chosen = largest_fast(result.sizes, result.memory)
    return 1 if chosen is None else max(1, chosen.networks // study.seeds_per_point)


def _blocks_per_gpu(study: Study, capacity: Capacity, measured: Mapping[str, ProbeResult]) -> int:
    """How many blocks share a GPU: for how many it has memory, CPUs and blocks."""
    if any(not result.sizes for result in measured.values()):
        return 1
    node = node_of(capacity)
    gpus = max(1.0, node["GPU"])
    most = blocks_side_by_side(study) // max(1, int(capacity.get("GPU", 1.0)))
    if study.resources.cpu > 0:
        most = min(most, int(node["CPU"] / (study.resources.cpu * gpus)))
    fewest = []
    for arm, result in measured.items():
        networks = 0
        if study.mode != "confirm":
            networks = study.trials_of(arm).block_size * study.seeds_per_point
        if study.confirms():
            networks = max(networks, study.confirm_seeds)
        if study.finalists > 1:
            networks = max(networks, study.finalists * len(study.seeds.finals))
        memory = memory_of(result.sizes, networks) + result.of_process
        fewest.append(blocks_per_gpu(memory, result.available, most))
    return min(fewest)


def _points(count: int) -> str:
    return f"{count} {'point' if count == 1 else 'points'}"
