"""A checkpoint is what was written, or it is none: damage is never loaded and never raised."""

from __future__ import annotations

import hashlib
import logging
import pickle
import random
import resource
import signal
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynloss_core import checkpoint
from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.training import AutogradEngine, BatchedEngine, Engine, Setup
from tests.cases import CASES

STATE = {"weights": torch.linspace(-1, 1, 301), "curves": [1.5, "x", None], "step": 7}


def written(folder: Path) -> tuple[Path, bytes]:
    path = folder / "block.pt"
    save_checkpoint(path, STATE)
    return path, path.read_bytes()


def assert_is_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert load_checkpoint(path) is None


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, STATE)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(path, {"a": (each for each in ())})
    state = load_checkpoint(path)
    assert state is not None
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {"curves": [1.5, "x", None], "step": 7}
    assert list(path.parent.iterdir()) == [path]


def test_single_bits_that_flip(tmp_path: Path) -> None:
    path, content = written(tmp_path)
    draws = random.Random(0)
    for _ in range(400):
        flipped = bytearray(content)
        flipped[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        assert_is_none(path, bytes(flipped))


def test_holes_of_zeros(tmp_path: Path) -> None:
    path, content = written(tmp_path)
    draws = random.Random(1)
    for _ in range(200):
        length = draws.randrange(1, 600)
        first = draws.randrange(len(content) - length)
        damaged = content[:first] + bytes(length) + content[first + length :]
        if damaged != content:
            assert_is_none(path, damaged)


def test_files_that_are_cut_off_or_longer(tmp_path: Path) -> None:
    path, content = written(tmp_path)
    for length in [*range(80), *range(80, len(content), 97), len(content) - 1]:
        assert_is_none(path, content[:length])
    assert_is_none(path, content + b"\0")


@settings(max_examples=300)
@given(content=st.binary(max_size=300), headed=st.sampled_from(["nothing", "format", "digest"]))
def test_arbitrary_bytes(tmp_path_factory: Any, content: bytes, headed: str) -> None:
    """Even those that claim to be a checkpoint, with a digest that fits."""
    digest = hashlib.sha256(content).digest() if headed == "digest" else b""
    head = checkpoint._FORMAT if headed != "nothing" else b""
    path = tmp_path_factory.getbasetemp() / "arbitrary.pt"
    assert_is_none(path, head + digest + content)


def with_digest(path: Path) -> None:
    """Make what a file holds a checkpoint by its head alone."""
    content = path.read_bytes()
    path.write_bytes(checkpoint._FORMAT + hashlib.sha256(content).digest() + content)


def other_archives(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("block/data.pkl", b"no pickle")


def tar_archive(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__)


def no_dictionary(path: Path) -> None:
    torch.save([1, 2], path)


def truncated_archive(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("write", [other_archives, tar_archive, no_dictionary, truncated_archive])
def test_files_of_other_kinds(write: Callable[[Path], None], digest: bool, tmp_path: Path) -> None:
    path = tmp_path / "block.pt"
    write(path)
    if digest:
        with_digest(path)
    assert load_checkpoint(path) is None


def test_the_format_without_a_digest_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "block.pt"
    torch.save({"format": 1, "state": STATE}, path)
    assert load_checkpoint(path) is None


@pytest.mark.parametrize("digest", [False, True])
def test_what_would_run_code_is_passed_over(digest: bool, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "bomb.pt"
    torch.save({"a": Bomb()}, path)
    if digest:
        with_digest(path)
    assert load_checkpoint(path) is None
    assert not (tmp_path / "touched").exists()


def test_the_log_says_what_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, content = written(tmp_path)
    with caplog.at_level(logging.WARNING, "dynloss_core"):
        assert load_checkpoint(path) is not None
        assert load_checkpoint(tmp_path / "none.pt") is None
        assert not caplog.messages
        assert_is_none(path, content[:-1] + b"?")
        assert_is_none(path, b"PK\x03\x04")
    damaged, other = caplog.messages
    assert str(path) in damaged
    assert "damaged" in damaged
    assert "not in the format 'dynloss checkpoint 2'" in other


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011  a folder, a lost mount, no permission
        load_checkpoint(tmp_path)


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "block.pt"
    save_checkpoint(path, {"a": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(path, {"a": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load_checkpoint(path) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["block.pt"]


@pytest.mark.parametrize("engine", [AutogradEngine, BatchedEngine])
def test_an_engine_refuses_parameters_of_another_shape(engine: type[Engine]) -> None:
    """One row for many would be broadcast, one dtype for another rounded."""
    case = CASES[0]
    state = engine(Setup.build(case.problem, case.members)).state_dict()

    def changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        if isinstance(value, torch.Tensor):
            return change(value)
        if isinstance(value, dict):
            return {key: changed(each, change) for key, each in value.items()}
        return [changed(each, change) for each in value] if isinstance(value, list) else value

    for change in (lambda tensor: tensor[:1], lambda tensor: tensor.float()):
        other = {**state, "parameters": changed(state["parameters"], change)}
        with pytest.raises(ValueError, match="networks with other parameters"):
            engine(Setup.build(case.problem, case.members)).load_state_dict(other)
