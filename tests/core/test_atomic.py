"""Whatever ends a writer, a reader sees the whole of the old file or the whole of the new one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dynloss_core.atomic import PART, atomic_file, write_atomically


def test_bytes_and_text_are_written_and_folders_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "bytes", b"\x00\xff")
    write_atomically(tmp_path / "a" / "text", "Γ\n")
    assert (tmp_path / "a" / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "Γ\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_atomically(path, "old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "never"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_reader_sees_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    with atomic_file(path) as file:
        file.write(b"content")
        file.flush()
        assert not path.exists()
        assert [each.suffix for each in tmp_path.iterdir()] == [PART]
    assert path.read_bytes() == b"content"


def test_a_file_has_the_permissions_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "shared", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o640
