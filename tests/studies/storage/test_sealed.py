"""What was damaged or edited since it was written is refused: every bit of a file is covered."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ConfigError
from studies.storage.sealed_files import marks_of, read_json, read_table, write_json, write_parquet

FRAME = pd.DataFrame(
    {
        "period": pd.array([None, 3, 5], dtype="Int64"),
        "loss": [0.1, float("nan"), float("inf")],
        "arm": ["static", "dynamical", "Γ"],
        "diverged": [True, False, False],
    }
)
CONTENT = {"rounds": [{"seeds": [50_000, 50_001], "objective": 0.1}], "name": "Γ"}


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.parquet"
    write_parquet(FRAME, path, {"kinds": "curves,trace"})
    pd.testing.assert_frame_equal(read_table(path, ""), FRAME)
    pd.testing.assert_frame_equal(pd.read_parquet(path), FRAME)  # and to any other reader
    assert marks_of(path, "")["kinds"] == "curves,trace"


def test_an_empty_table_comes_back(tmp_path: Path) -> None:
    write_parquet(pd.DataFrame(), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", "").empty


def test_no_flipped_bit_of_a_table_is_read_as_another_value(tmp_path: Path) -> None:
    """Every bit of a small file. What is read all the same is what was written."""
    path = tmp_path / "a.parquet"
    write_parquet(FRAME, path)
    content, refused = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            pd.testing.assert_frame_equal(read_table(path, "mend it"), FRAME)
        except ConfigError as error:
            assert str(error).startswith(f"{path}: is damaged: ")
            assert str(error).endswith("; mend it")
            refused += 1
    assert refused > 0.95 * 8 * len(content), "all but the digest's own name and what pads it"


def test_no_hole_or_cut_of_a_table_is_read(tmp_path: Path) -> None:
    path, random_ = tmp_path / "a.parquet", random.Random(0)
    write_parquet(pd.DataFrame({"loss": np.random.default_rng(0).normal(size=500)}), path)
    content = path.read_bytes()
    for _ in range(200):
        start = random_.randrange(len(content) - 64)
        hole = content[:start] + bytes(64) + content[start + 64 :]
        for damaged in (hole, content[:start], content[start:]):
            path.write_bytes(damaged)
            with pytest.raises(ConfigError, match="is damaged"):
                read_table(path, "")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_table_or_json_are_refused_in_a_line(content: bytes) -> None:
    path = Path(f"/dev/shm/{random.getrandbits(64):x}")
    path.write_bytes(content)
    try:
        for read in (read_table, marks_of):
            with pytest.raises(ConfigError, match="is damaged"):
                read(path, "")
        try:
            json.loads(content)
        except ValueError:
            with pytest.raises(ConfigError, match="is damaged"):
                read_json(path, "")
    finally:
        path.unlink()


def test_no_edited_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, CONTENT)
    assert read_json(path, "") == CONTENT
    text = path.read_text()
    for before, after in (("50000", "50002"), ("0.1", "0.2"), ("seeds", "seedz")):
        path.write_text(text.replace(before, after))
        with pytest.raises(ConfigError, match="is damaged: its content is not what was written"):
            read_json(path, "")
    path.write_text(text.replace("  ", " "))
    assert read_json(path, "") == CONTENT, "white space says nothing"


def test_files_of_versions_without_a_seal_are_read(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps([CONTENT]))
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.parquet", ""), FRAME)
    assert read_json(tmp_path / "a.json", "") == [CONTENT]
    assert "kinds" not in marks_of(tmp_path / "a.parquet", "")


@pytest.mark.parametrize("read", [read_table, marks_of, read_json])
def test_what_cannot_be_read_is_named(read: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: is missing; do this"):
        read(tmp_path / "none", "do this")  # type: ignore[operator]
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="folder: cannot be read: Is a directory"):
        read(tmp_path / "folder", "do this")  # type: ignore[operator]
