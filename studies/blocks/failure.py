"""Why a block ended without a result, and whether to try it again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from dynloss_core.config import ConfigError

__all__ = ["Failure", "FailureKind", "failure_to_train", "in_a_line"]

_MAX_CHARACTERS = 300


class FailureKind(Enum):
    """What a failure means for another attempt."""

    LOST = auto()
    """The process or machine is gone, through no fault of the block."""
    NOT_STARTED = auto()
    """The process failed before it was given a block; its machine may be at fault."""
    RAISED = auto()
    """Training raised an error; if it does so again, the block is at fault."""
    REFUSED = auto()
    """The block was refused, and would be again."""
    NO_WORKER = auto()
    """The process cannot import what it needs, nor could it for any other block."""


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a block.

    Args:
        kind: what it means for another attempt.
        reason: the error's type and message, in one line.
    """

    kind: FailureKind
    reason: str


def failure_to_train(error: Exception) -> Failure:
    """The failure that an error stands for which a block raised."""
    kind = FailureKind.REFUSED if isinstance(error, ConfigError) else FailureKind.RAISED
    return Failure(kind, in_a_line(error))


def in_a_line(error: BaseException) -> str:
    """`ValueError: what it says`, on one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:_MAX_CHARACTERS].removesuffix(": ")
