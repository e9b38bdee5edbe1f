"""A network that was trained before is not trained again, but copied from where it was recorded.

Two networks are the same if they share a configuration hash, which covers the problem and the
member down to its seed, and what the hash leaves out: the engine, the kind of device, the origin
(code and versions, see `studies.blocks.code_origin`), and whether the phase evaluates on the test
split. A trial is reused if all of its networks are known, from a study in the same output folder or
from this one, where TPE may propose a point twice; its rows say which study (`reused_from`). A
block waits while another one trains any of its networks, and equal points in a block are trained
once. Studies that record something beside evaluations, or stop trials early, neither reuse networks
nor offer theirs: the hash does not cover that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
from pyarrow import dataset

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.training import choose_engine
from search_spaces import Point
from studies.blocks.block import Block, BlockResult, Trial
from studies.blocks.code_origin import current_origin
from studies.blocks.tables import member_hashes
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.storage.stored_study import StoredStudy, stored_definition
from studies.storage.study_folder import StudyFolder

__all__ = ["KnownNetworks", "joined"]

_UNREADABLE = (ConfigError, OSError, ValueError, pa.ArrowException)
_NEEDED = {
    keys.PHASE: pa.string(),
    keys.ARM: pa.string(),
    keys.BLOCK: pa.int64(),
    keys.TRIAL: pa.int64(),
    keys.SEED: pa.int64(),
    keys.CONFIG_HASH: pa.string(),
    keys.ENGINE: pa.string(),
    keys.DEVICE: pa.string(),
    keys.ORIGIN: pa.string(),
}


class _Key(NamedTuple):
    """What two networks share if they are the same."""

    config_hash: str
    engine: str
    device: str
    origin: str
    evaluates_on_test: bool


class _Source(NamedTuple):
    """Where a network is recorded."""

    folder: Path
    phase: str
    arm: str
    block: int
    trial: int
    seed: int


class KnownNetworks:
    """The networks that a study need not train.

    Args:
        stored: the study that would train them; the studies beside it are searched too.
    """

    def __init__(self, stored: StoredStudy) -> None:
        self._study, self._folder = stored.study, stored.folder
        self._sources: dict[_Key, _Source] = {}
        self._in_training: set[_Key] = set()
        self._keys_of: dict[str, dict[int, tuple[_Key, ...]]] = {}  # of blocks asked for, by trial
        self._shares = _shares_networks(stored.study)
        self._neighbours_indexed = not self._shares

    def begin(self, block: Block) -> None:
        """Take note that the given trials of a block are being trained."""
        if self._shares:
            by_trial = self._keys(block)
            self._in_training.update(
                key for trial in block.trials for key in by_trial[trial.number]
            )

    def end(self, block: Block, members: pd.DataFrame) -> None:
        """Add the networks of a block that has ended, in this session or an earlier one, from its
        members table, which is empty if the block failed."""
        for network_keys in self._keys_of.pop(block.id, {}).values():
            self._in_training.difference_update(network_keys)
        if self._shares and set(_NEEDED) <= set(members.columns):
            self._add(members, self._folder)

    def is_training(self, block: Block) -> bool:
        """Whether another block is training any of this block's networks."""
        if not self._in_training:
            return False
        return any(
            not self._in_training.isdisjoint(needed) for needed in self._keys(block).values()
        )

    def duplicates(self, block: Block) -> dict[int, int]:
        """The trials of a block that equal an earlier one in it, each with that one's number."""
        if not self._shares or len(block.trials) == 1:
            return {}
        first: dict[tuple[_Key, ...], int] = {}
        duplicates = {}
        for number, network_keys in self._keys(block).items():
            if first.setdefault(network_keys, number) != number:
                duplicates[number] = first[network_keys]
        return duplicates

    def copied(self, block: Block, number: int, result: BlockResult, original: int) -> BlockResult:
        """The tables of a duplicate trial, from those of its original in the block's result."""
        trial = next(trial for trial in block.trials if trial.number == number)
        study = self._folder.path.name
        members, curves = (
            self._relabelled(table[table[keys.TRIAL] == original], block, trial, study, kind)
            for kind, table in (("members", result.members), ("curves", result.curves))
        )
        return BlockResult(members, curves)

    def known_trials(self, block: Block) -> dict[int, BlockResult]:
        """The known trials of a block, by number, each with its tables."""
        self._index_neighbours()
        if not self._sources:
            return {}
        results = {}
        for trial in block.trials:
            network_keys = self._keys(block)[trial.number]
            known = {key: self._sources[key] for key in network_keys if key in self._sources}
            if len(known) == len(network_keys):
                result = self._reused(block, trial, known)
                if result is not None:
                    results[trial.number] = result
        return results

    def _index_neighbours(self) -> None:
        """Add the networks of the studies beside this one, once there is something to train."""
        if self._neighbours_indexed:
            return
        self._neighbours_indexed = True
        for path in sorted(self._folder.path.parent.iterdir()):
            if path != self._folder.path and (path / "study.yaml").is_file():
                self._index(StudyFolder(path))

    def _index(self, other: StudyFolder) -> None:
        """Add the networks of another study, if it shares them."""
        with suppress(*_UNREADABLE):  # another study's damage must not stop this one
            if not _shares_networks(stored_definition(other)):
                return
            if parts := [str(path) for path in other.parts.files("members")]:
                tables = dataset.dataset(parts, schema=pa.schema(_NEEDED), format="parquet")
                known = tables.to_table().to_pandas()  # seals are checked when a row is reused
                self._add(known.dropna(subset=[keys.ORIGIN]), other)

    def _add(self, members: pd.DataFrame, folder: StudyFolder) -> None:
        columns = [members[name].tolist() for name in _NEEDED]
        for row in zip(*columns, strict=True):
            phase, arm, block, trial, seed, config_hash, engine, device, origin = row
            key = _Key(config_hash, engine, device, origin, Phase.parse(phase).is_fresh)
            self._sources.setdefault(key, _Source(folder.path, phase, arm, block, trial, seed))

    def _keys(self, block: Block) -> dict[int, tuple[_Key, ...]]:
        """The keys of the networks of each trial of a block, in the order of the seeds."""
        if block.id not in self._keys_of:
            by_trial = {t.number: tuple(self._keys_of_trial(block, t)) for t in block.trials}
            self._keys_of[block.id] = by_trial
        return self._keys_of[block.id]

    def _keys_of_trial(self, block: Block, trial: Trial) -> Iterator[_Key]:
        phase = Phase.parse(block.phase)
        study = self._study.search(phase.search)
        problem = study.problem(block.arm, trial.point)
        engine = choose_engine(problem, study.engine, study.device).name
        members = [study.member(trial.point, seed, problem) for seed in block.seeds]
        device, origin = study.device, current_origin().digest
        for config_hash in member_hashes(problem, members):
            yield _Key(config_hash, engine, device, origin, phase.is_fresh)

    def _reused(self, block: Block, trial: Trial, known: dict[_Key, _Source]) -> BlockResult | None:
        """The tables of a known trial as this study's; None if its rows are gone or replaced."""
        tables: dict[str, list[pd.DataFrame]] = {"members": [], "curves": []}
        for key, source in known.items():
            source_block = Block(source.phase, source.arm, source.block, (), ())
            for kind, frames in tables.items():
                try:
                    part = _part(source.folder, source_block, kind)
                except _UNREADABLE:
                    return None
                if part.empty:  # the block failed
                    return None
                of_trial, of_seed = part[keys.TRIAL] == source.trial, part[keys.SEED] == source.seed
                rows, study = part[of_trial & of_seed], source.folder.name
                if kind == "members" and list(rows[keys.CONFIG_HASH]) != [key.config_hash]:
                    return None
                frames.append(self._relabelled(rows, block, trial, study, kind))
        members, curves = (pd.concat(frames, ignore_index=True) for frames in tables.values())
        return BlockResult(members, curves)

    def _relabelled(
        self, rows: pd.DataFrame, block: Block, trial: Trial, study: str, kind: str
    ) -> pd.DataFrame:
        """Rows that a study recorded for another trial, rewritten as those of this one."""
        dotted = [name for name in rows.columns if "." in name]
        new = rows.drop(columns=dotted)
        new[keys.STUDY], new[keys.PHASE], new[keys.ARM] = self._study.name, block.phase, block.arm
        new[keys.BLOCK], new[keys.TRIAL] = block.index, trial.number
        if kind == "members":
            for offset, (name, value) in enumerate(_dotted(trial.point).items()):
                new.insert(list(new.columns).index(keys.SEED) + 1 + offset, name, value)
            if keys.REUSED_FROM not in new:
                new[keys.REUSED_FROM] = None
            new[keys.REUSED_FROM] = new[keys.REUSED_FROM].fillna(study)
        return new


def joined(known: dict[int, BlockResult], trained: BlockResult | None = None) -> BlockResult:
    """The result of a block from its known trials and its trained ones, ordered by trial."""
    parts = [*known.values(), *([] if trained is None else [trained])]
    by = [keys.TRIAL, keys.SEED]
    members = pd.concat([part.members for part in parts]).sort_values(by, kind="stable")
    curves = pd.concat([part.curves for part in parts]).sort_values(by, kind="stable")
    return replace(
        parts[-1],
        members=members.reset_index(drop=True),
        curves=curves.reset_index(drop=True),
    )


@lru_cache(maxsize=16)  # the trials of a block are asked for one by one
def _part(folder: Path, block: Block, kind: str) -> pd.DataFrame:
    return StudyFolder(folder).parts.table(block, kind)


def _shares_networks(study: Study) -> bool:
    """Whether a study reuses networks and offers its own: the configuration hash must cover all
    that it keeps of them."""
    return study.record is None and study.early_stopping is None


def _dotted(point: Point) -> Point:
    """The parameters of a point that belong to the problem, which have columns of their own."""
    return {name: value for name, value in point.items() if "." in name}
