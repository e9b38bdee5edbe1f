"""A network that was trained before is not trained again: it is taken from where it was recorded.

Two networks are the same if their configuration hash is, which covers the problem and the member
down to its seed, and with it all that is not in the hash: the engine, the kind of device, the
origin (code and versions, see `studies.blocks.code_origin`), and whether the phase looks at the
test split. A trial is taken if all of its networks are known, from a study in the same output
folder or from this one, where TPE may propose a point again; its rows say where from
(`reused_from`). A block waits while another has one of its networks at work, and equal points in a
block are trained once. Studies that record something beside evaluations, or stop trials early,
neither give nor take: the hash says nothing of that.
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
from studies.blocks.code_origin import here
from studies.blocks.tables import member_hashes
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
    """What makes two networks the same."""

    config_hash: str
    engine: str
    device: str
    origin: str
    confirmed: bool


class _Place(NamedTuple):
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
        stored: the study that would train them; those beside it are searched too.
    """

    def __init__(self, stored: StoredStudy) -> None:
        self._study, self._folder = stored.study, stored.folder
        self._places: dict[_Key, _Place] = {}
        self._at_work: set[_Key] = set()
        self._keys_of: dict[str, dict[int, tuple[_Key, ...]]] = {}  # of blocks asked for, by trial
        self._takes_part = _takes_part(stored.study)
        self._looked = not self._takes_part

    def begin(self, block: Block) -> None:
        """The trials of a block, which need not be all of it, are at work now."""
        if self._takes_part:
            names = self._keys(block)
            self._at_work.update(key for each in block.trials for key in names[each.number])

    def end(self, block: Block, members: pd.DataFrame) -> None:
        """A block of this study has ended, in this session or an earlier one: know its networks,
        from its members table, which is empty if it could not be trained."""
        for names in self._keys_of.pop(block.id, {}).values():
            self._at_work.difference_update(names)
        if self._takes_part and set(_NEEDED) <= set(members.columns):
            self._note(members[list(_NEEDED)], self._folder)

    def at_work(self, block: Block) -> bool:
        """Whether another block has networks of this one at work."""
        if not self._at_work:
            return False
        return any(not self._at_work.isdisjoint(names) for names in self._keys(block).values())

    def duplicates(self, block: Block) -> dict[int, int]:
        """The trials of a block whose networks are those of an earlier one in it, with that one."""
        if not self._takes_part or len(block.trials) == 1:
            return {}
        first: dict[tuple[_Key, ...], int] = {}
        found = {}
        for number, names in self._keys(block).items():
            if first.setdefault(names, number) != number:
                found[number] = first[names]
        return found

    def copied(self, block: Block, number: int, result: BlockResult, twin: int) -> BlockResult:
        """The tables of a trial from the result of its block, where its twin's are."""
        trial = next(each for each in block.trials if each.number == number)
        origin = self._folder.path.name
        members, curves = (
            self._own(table[table[keys.TRIAL] == twin], block, trial, origin, kind)
            for kind, table in (("members", result.members), ("curves", result.curves))
        )
        return BlockResult(members, curves)

    def trials(self, block: Block) -> dict[int, BlockResult]:
        """The trials of a block that are known, by number, each with its tables."""
        self._look_around()
        if not self._places:
            return {}
        found = {}
        for trial in block.trials:
            names = self._keys(block)[trial.number]
            known = {key: self._places[key] for key in names if key in self._places}
            if len(known) == len(names):
                result = self._taken(block, trial, known)
                if result is not None:
                    found[trial.number] = result
        return found

    def _look_around(self) -> None:
        """Know the networks of the studies beside this one, once there is something to train."""
        if self._looked:
            return
        self._looked = True
        for path in sorted(self._folder.path.parent.iterdir()):
            if path != self._folder.path and (path / "study.yaml").is_file():
                self._look_into(StudyFolder(path))

    def _look_into(self, other: StudyFolder) -> None:
        """Know the networks of another study, if it could have trained the same."""
        with suppress(*_UNREADABLE):  # whatever is wrong there is no fault of this study's
            if not _takes_part(stored_definition(other)):
                return
            if parts := [str(path) for path in other.parts.files("members")]:
                tables = dataset.dataset(parts, schema=pa.schema(_NEEDED), format="parquet")
                known = tables.to_table().to_pandas()  # what is taken of them is read with its seal
                self._note(known.dropna(subset=[keys.ORIGIN]), other)

    def _note(self, members: pd.DataFrame, folder: StudyFolder) -> None:
        for row in members.itertuples(index=False):
            phase, arm, block, trial, seed, config_hash, engine, device, origin = row
            key = _Key(config_hash, engine, device, origin, phase != keys.SEARCH)
            self._places.setdefault(key, _Place(folder.path, phase, arm, block, trial, seed))

    def _keys(self, block: Block) -> dict[int, tuple[_Key, ...]]:
        """What the networks of each trial of a block are known by, in the order of the seeds."""
        if block.id not in self._keys_of:
            names = {each.number: tuple(self._keys_of_trial(block, each)) for each in block.trials}
            self._keys_of[block.id] = names
        return self._keys_of[block.id]

    def _keys_of_trial(self, block: Block, trial: Trial) -> Iterator[_Key]:
        problem = self._study.problem(trial.point)
        engine = choose_engine(problem, self._study.engine, self._study.device).name
        members = [self._study.member(trial.point, seed, problem) for seed in block.seeds]
        device, origin = self._study.device, here().digest
        for config_hash in member_hashes(problem, members):
            yield _Key(config_hash, engine, device, origin, block.phase != keys.SEARCH)

    def _taken(self, block: Block, trial: Trial, places: dict[_Key, _Place]) -> BlockResult | None:
        """The rows of a trial's networks as those of this study; None if they are gone, or others
        are there now."""
        tables: dict[str, list[pd.DataFrame]] = {"members": [], "curves": []}
        for key, place in places.items():
            there = Block(place.phase, place.arm, place.block, (), ())
            for kind, rows in tables.items():
                try:
                    table = _part(place.folder, there, kind)
                except _UNREADABLE:
                    return None
                if table.empty:  # it failed
                    return None
                of_trial, of_seed = table[keys.TRIAL] == place.trial, table[keys.SEED] == place.seed
                found, name = table[of_trial & of_seed], place.folder.name
                if kind == "members" and list(found[keys.CONFIG_HASH]) != [key.config_hash]:
                    return None
                rows.append(self._own(found, block, trial, name, kind))
        members, curves = (pd.concat(rows, ignore_index=True) for rows in tables.values())
        return BlockResult(members, curves)

    def _own(
        self, rows: pd.DataFrame, block: Block, trial: Trial, origin: str, kind: str
    ) -> pd.DataFrame:
        """Rows of another trial, from a study, as those of this one."""
        foreign = [name for name in rows.columns if "." in name]
        own = rows.drop(columns=foreign)
        own[keys.STUDY], own[keys.PHASE], own[keys.ARM] = self._study.name, block.phase, block.arm
        own[keys.BLOCK], own[keys.TRIAL] = block.index, trial.number
        if kind == "members":
            for offset, (name, value) in enumerate(_dotted(trial.point).items()):
                own.insert(list(own.columns).index(keys.SEED) + 1 + offset, name, value)
            if keys.REUSED_FROM not in own:
                own[keys.REUSED_FROM] = None
            own[keys.REUSED_FROM] = own[keys.REUSED_FROM].fillna(origin)
        return own


def joined(known: dict[int, BlockResult], trained: BlockResult | None = None) -> BlockResult:
    """The result of a block from its known trials and those that were trained, trial by trial."""
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


def _takes_part(study: Study) -> bool:
    """Whether the configuration hash says all of what a study keeps of a network."""
    return study.record is None and study.early_stopping is None


def _dotted(point: Point) -> Point:
    """The parameters of a point that belong to the problem; they have columns of their own."""
    return {name: value for name, value in point.items() if "." in name}
