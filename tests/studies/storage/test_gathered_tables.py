"""Gathered tables are what the parts hold, and are read in their place until a part changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ConfigError
from studies.blocks.block import Block, BlockResult, Trial
from studies.storage import gathered_tables
from studies.storage import parts as parts_module
from studies.storage.gathered_tables import Frames, concatenated
from studies.storage.parts import Parts

COLUMNS: dict[str, Callable[[int], pd.Series]] = {
    "loss": lambda n: pd.Series(np.linspace(0, 1, n)),
    "single": lambda n: pd.Series(np.linspace(0, 1, n), dtype="float32"),
    "period": lambda n: pd.Series([None, *range(1, n)], dtype="Int64"),
    "count": lambda n: pd.Series(range(n)),
    "arm": lambda n: pd.Series(["static"] * n),
    "from": lambda n: pd.Series([None] * n, dtype=object),
    "diverged": lambda n: pd.Series([False] * n),
}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.lists(st.sampled_from(sorted(COLUMNS)), unique=True, min_size=1)
        ),
        max_size=8,
    )
)
def test_tables_are_put_together_as_pandas_does(forms: list[tuple[int, list[str]]]) -> None:
    frames = [pd.DataFrame({name: COLUMNS[name](n) for name in names}) for n, names in forms]
    filled = [frame for frame in frames if len(frame)]
    expected = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    tables = [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames]
    one_by_one = [table.to_pandas() for table in tables if len(table)]
    known = pd.concat(one_by_one, ignore_index=True) if one_by_one else pd.DataFrame()
    pd.testing.assert_frame_equal(concatenated(tables), known)
    assert list(known.columns) == list(expected.columns)


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_each_is_the_frame_that_it_would_be_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_tables, "_TABLES_AT_ONCE", at_once)
    names = [["loss"], ["loss"], ["loss", "period"], ["loss"], ["arm", "from"], ["arm", "from"]]
    frames = [pd.DataFrame({n: COLUMNS[n](k) for n in own}) for k, own in enumerate(names)]
    tables = [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames]
    known = Frames((str(place), table) for place, table in enumerate(tables))
    for place in (3, 0, 5, 1, 2, 4):
        pd.testing.assert_frame_equal(known.pop(str(place)), tables[place].to_pandas())
    assert known.pop("3") is None
    pd.testing.assert_frame_equal(
        concatenated(tables), pd.concat([t.to_pandas() for t in tables[1:]], ignore_index=True)
    )


def block(index: int, arm: str = "dynamical") -> Block:
    return Block("search", arm, index, (Trial(index, {}),), (0,))


def result(index: int, **columns: object) -> BlockResult:
    members = pd.DataFrame({"trial": [index], "loss": [index / 7], **columns})
    curves = pd.DataFrame({"trial": [index] * 3, "step": [0, 1, 2]})
    return BlockResult(members, curves, {"traces": curves.head(index % 2)})


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    parts = Parts(tmp_path, "dynloss run study --resume")
    for index in range(5):
        parts.record(block(index), result(index))
    parts.record(block(0, "static"), result(0, amplitude=1.0))
    parts.record_failure(block(1, "static"), "ValueError: no")
    return parts


def write(parts: Parts, tmp_path: Path) -> None:
    parts.gather_all().write(tmp_path / "tables")


@pytest.fixture
def no_part_is_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(path: Path, remedy: str) -> None:
        raise AssertionError(f"{path.name} was read")

    return lambda: monkeypatch.setattr(parts_module, "read_arrow", refuse)


def test_they_are_read_in_place_of_their_parts(
    parts: Parts, tmp_path: Path, no_part_is_read: Callable[[], None]
) -> None:
    before = parts.gather_all()
    before.write(tmp_path / "tables")
    no_part_is_read()
    after = parts.gather_all()
    for kind, table in before.of_kind.items():
        pd.testing.assert_frame_equal(after.of_kind[kind], table)
    pd.testing.assert_frame_equal(parts.gather("members"), before.of_kind["members"])
    assert len(after.of_kind["traces"]) == 2
    assert after.of_kind["valleys"].empty


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts.record(block(5), result(5)),
        lambda parts: parts.record(block(2), result(3)),
        lambda parts: parts.files("members")[0].unlink(),
        lambda parts: parts.record_failure(block(6), "ValueError: no"),
    ],
    ids=["written", "replaced", "deleted", "failed"],
)
def test_a_part_that_changes_is_seen(
    change: Callable[[Parts], None], parts: Parts, tmp_path: Path
) -> None:
    write(parts, tmp_path)
    change(parts)
    expected = [frame for path in parts.files("members") if len(frame := pd.read_parquet(path))]
    pd.testing.assert_frame_equal(parts.gather("members"), pd.concat(expected, ignore_index=True))


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_all_that_is_recorded_is_what_each_part_holds(
    at_once: int, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.storage.parts._FILES_AT_ONCE", at_once)
    monkeypatch.setattr("studies.storage.parts._READERS", 2)
    damaged = parts.files("members")[1]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with parts.read_ahead() as read:
        recorded = read()
    for index in (0, 2, 3, 4):
        expected = parts.recorded(block(index))
        pd.testing.assert_frame_equal(recorded.pop(block(index).id), expected)
    failed = recorded.pop(block(1, "static").id)
    assert failed is not None
    assert failed.empty
    assert recorded.pop(block(1).id) is None, "damaged: refused when it is asked for"


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_the_first_damaged_part_is_named(
    at_once: int, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.storage.parts._FILES_AT_ONCE", at_once)
    first, second = parts.files("curves")[1:3]
    for damaged in (second, first):
        damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=re.escape(first.name)):
        parts.gather("curves")


@pytest.mark.parametrize("kind", ["members", "curves", "traces"])
def test_a_damaged_table_is_gathered_again(kind: str, parts: Parts, tmp_path: Path) -> None:
    before = parts.gather_all().of_kind
    write(parts, tmp_path)
    path = tmp_path / "tables" / f"{kind}.parquet"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    pd.testing.assert_frame_equal(parts.gather(kind), before[kind])
    path.unlink()
    pd.testing.assert_frame_equal(parts.gather(kind), before[kind])


def test_tables_that_are_there_are_not_written_again(parts: Parts, tmp_path: Path) -> None:
    write(parts, tmp_path)
    path = tmp_path / "tables" / "members.parquet"
    before = path.stat().st_mtime_ns
    write(parts, tmp_path)
    assert path.stat().st_mtime_ns == before
    parts.record(block(5), result(5))
    write(parts, tmp_path)
    assert len(pd.read_parquet(path)) == 7
