"""What Ray reports of a block that ended without a result, read as a `Failure`."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError

from studies.blocks.failure import Failure, FailureKind, failure_to_train, in_a_line

__all__ = ["failure_of", "read_error"]

_MAX_CHARACTERS = 300
_OF_IMPORTS = (AttributeError, ImportError, SyntaxError)
_NAMES_OF_IMPORTS = {"ModuleNotFoundError", *(error.__name__ for error in _OF_IMPORTS)}


def read_error(trial: Any) -> Exception | str | None:
    """The last error of one of Tune's trials.

    Tune's own `get_pickled_error` reads a file to which the error is copied only later.
    """
    with suppress(OSError, TypeError, pickle.UnpicklingError, ImportError, AttributeError):
        error: Exception = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        return error
    with suppress(OSError, TypeError):  # the path is None before there was an error
        return Path(trial.error_file).read_text()
    return None


def failure_of(error: Exception | str | None) -> Failure:
    """The failure that an error stands for.

    Args:
        error: the error from `read_error`. Tune keeps as text what neither a task nor an actor
            raised: Ray's own troubles, such as a machine that is out of memory.
    """
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, ImportError):
            return Failure(FailureKind.NO_WORKER, in_a_line(cause))
        return failure_to_train(cause)
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raised = _end_of_traceback(str(error))
        importing = raised.partition(":")[0] in _NAMES_OF_IMPORTS
        return Failure(
            FailureKind.NO_WORKER if importing else FailureKind.NOT_STARTED,
            raised[:_MAX_CHARACTERS],
        )
    last = (str(error or "").strip() or "no reason is known").splitlines()[-1].strip()
    return Failure(FailureKind.LOST, f"its process or machine is gone: {last}"[:_MAX_CHARACTERS])


def _end_of_traceback(text: str) -> str:
    """The error that a traceback ends with, on one line: what follows its last indented line."""
    lines = text.rstrip().splitlines()
    indented = [index for index, line in enumerate(lines[:-1]) if line.startswith(" ")]
    start = indented[-1] + 1 if indented else len(lines) - 1
    return " ".join(" ".join(lines[start:]).split())
