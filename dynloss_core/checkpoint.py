"""Checkpoints: written atomically, loaded without executing anything."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

__all__ = ["load_checkpoint", "save_checkpoint"]

_FORMAT = 1  # of what is saved; raised when a state's layout changes


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, text and containers of them; a reader never sees half a file.

    Raises:
        OSError: if the file cannot be written; an older checkpoint at `path` stays as it was.
    """
    content = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError
    torch.save({"format": _FORMAT, "state": state}, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, on the CPU; None if there is none, or it is damaged or of another
    format: whoever asks begins afresh.

    Raises:
        OSError: if the file cannot be read.
        pickle.UnpicklingError: if it holds anything but plain data.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError):
        raise
    except (EOFError, KeyError, RuntimeError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    state: dict[str, Any] = content["state"]
    return state
