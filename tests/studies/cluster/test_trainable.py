"""What Ray Tune runs, in this process: a block goes on where a process that is gone had saved it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynloss_core import keys
from studies.blocks.block import BlockResult
from studies.blocks.code_origin import current_origin
from studies.cluster.trainable import BLOCK, FRACTION, RESULT, BlockTrainable
from studies.definition.study import Study
from studies.object_store import LocalDisk, ObjectStore, opened
from tests.studies.cluster.example_block import BLOCK_OF_TWO
from tests.studies.tiny import tiny_study


def process(study: Study, checkpoints: Path | ObjectStore) -> BlockTrainable:
    """A new one, at the block's beginning or where it was saved."""
    store = LocalDisk(checkpoints) if isinstance(checkpoints, Path) else checkpoints
    trainable = BlockTrainable.__new__(BlockTrainable)
    trainable.setup({BLOCK: BLOCK_OF_TWO}, study, store, None, current_origin().files)
    return trainable


def steps(trainable: BlockTrainable, count: int | None = None) -> list[dict[str, Any]]:
    """Its reports: so many, or all that are left."""
    found = [trainable.step()]
    while not found[-1]["done"] and len(found) != count:
        found.append(trainable.step())
    return found


def tables(result: BlockResult) -> list[pd.DataFrame]:
    clock = [name for name in keys.MACHINE_COLUMNS if name in result.members]
    return [result.members.drop(columns=clock), result.curves]


@pytest.fixture(autouse=True)
def every_report_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.blocks.block_training._SECONDS_BETWEEN_REPORTS", 0.0)
    monkeypatch.setattr("studies.blocks.block_training._SECONDS_BETWEEN_CHECKPOINTS", 0.0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_goes_on_where_a_killed_process_was(count: int, tmp_path: Path) -> None:
    study = tiny_study()
    whole = steps(process(study, tmp_path / "whole"))
    assert len(whole) > count + 1
    killed = steps(process(study, tmp_path), count)
    rest = steps(process(study, tmp_path))
    assert [each[FRACTION] for each in [*killed, *rest]] == [each[FRACTION] for each in whole]
    for found, expected in zip(tables(rest[-1][RESULT]), tables(whole[-1][RESULT]), strict=True):
        pd.testing.assert_frame_equal(found, expected)


def test_goes_on_from_an_object_store(tmp_path: Path) -> None:
    study, store = tiny_study(), opened("memory://saved")
    whole = steps(process(study, tmp_path))
    killed = steps(process(study, store), 2)
    rest = steps(process(study, store))
    assert [each[FRACTION] for each in [*killed, *rest]] == [each[FRACTION] for each in whole]
    for found, expected in zip(tables(rest[-1][RESULT]), tables(whole[-1][RESULT]), strict=True):
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("damage", ["other bytes", "a bit", "cut", "a folder"])
def test_begins_afresh_where_nothing_can_be_read(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = tiny_study()
    steps(process(study, tmp_path), 2)
    (saved,) = tmp_path.glob("checkpoints/*.pt")
    content = saved.read_bytes()
    middle = len(content) // 2
    saved.unlink()
    if damage == "a folder":
        saved.mkdir()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        others = {"other bytes": b"no checkpoint", "a bit": flipped, "cut": content[:middle]}
        saved.write_bytes(others[damage])
    again, whole = steps(process(study, tmp_path)), steps(process(study, tmp_path / "whole"))
    assert saved.name in caplog.text
    for found, expected in zip(tables(again[-1][RESULT]), tables(whole[-1][RESULT]), strict=True):
        pd.testing.assert_frame_equal(found, expected)
