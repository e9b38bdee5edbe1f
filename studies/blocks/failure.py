"""Why a block ended without a result, and whether it is worth another try."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["Failure", "Kind"]


class Kind(Enum):
    """What a failure says about the next try."""

    LOST = auto()
    """The process or machine is gone, through no fault of the block."""
    NOT_STARTED = auto()
    """The process raised an error before it was given a block; it may be that machine's."""
    RAISED = auto()
    """The program raised an error; raised again, it is the block's own."""
    REFUSED = auto()
    """What the block asks for is refused, and would be again."""
    NO_WORKER = auto()
    """The process cannot import what it is to run: this is true of every block."""


@dataclass(frozen=True)
class Failure:
    """Of one block, once.

    Args:
        kind: what it says about the next try.
        reason: the error's type and message, in one line.
    """

    kind: Kind
    reason: str
