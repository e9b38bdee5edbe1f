"""Checkpoints: written atomically, checked before they are read, loaded without executing anything.

A file consists of a line that names the format, the SHA-256 of the content, and the content: the
state as `torch.save` writes it. Without the digest, a flipped bit inside a tensor would load as
another number.
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from dynloss_core.atomic import write_atomically
from dynloss_core.config import reason_of

__all__ = ["load_checkpoint", "packed_checkpoint", "save_checkpoint", "unpacked_checkpoint"]

log = logging.getLogger(__name__)

_FORMAT = b"dynloss checkpoint 2\n"  # raise the number when a state's layout changes
_DIGEST = hashlib.sha256().digest_size


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, text and containers of them; a reader never sees half a file.

    Raises:
        OSError: if the file cannot be written; an older checkpoint at `path` stays as it was.
    """
    write_atomically(path, packed_checkpoint(state))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, on the CPU; None if there is none, or as `unpacked_checkpoint`.

    Raises:
        OSError: if the file exists but cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return unpacked_checkpoint(content, str(path))


def packed_checkpoint(state: dict[str, Any]) -> bytes:
    """What is written of a state, with a digest."""
    content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError
    torch.save(state, content)
    digest = hashlib.sha256(content.getbuffer()).digest()
    return b"".join((_FORMAT, digest, content.getbuffer()))


def unpacked_checkpoint(content: bytes, name: str) -> dict[str, Any] | None:
    """The state that was packed, on the CPU.

    One that is not as it was written is ignored, and the log says so by its name: one that is
    damaged, truncated, in another format (format 1 had no digest), or made by somebody else to hold
    more than plain data. The caller then starts from the beginning, with the same results.
    """
    try:
        return _state_of(memoryview(content))
    except Exception as error:  # a file that somebody else made may raise anything
        log.warning("ignoring the checkpoint %s: %s", name, reason_of(error))
        return None


def _state_of(content: memoryview) -> dict[str, Any]:
    head, content = content[: len(_FORMAT)], content[len(_FORMAT) :]
    if head != _FORMAT:
        raise ValueError(f"it is not in the format {_FORMAT.decode().strip()!r}")
    digest, content = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("it is damaged: its content is not what was written")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a state")
    return state
