"""What libraries log while a study runs, and Python's warnings: in a file of its folder, and not
between the lines that a user reads."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from studies.definition.redaction import hide_password
from studies.messages import say

__all__ = ["library_log"]

_LOGGERS = ("mlflow", "alembic", "ray", "py.warnings")


@contextmanager
def library_log(file: Path, *, aloud: bool = False) -> Iterator[None]:
    """Keep what libraries log in a file, which is there once they log something.

    Args:
        file: where to append it; what cannot be written is dropped.
        aloud: whether to show it too.
    """
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")  # it would log to the terminal
    handler = _Appending(file, aloud=aloud)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


class _Appending(logging.Handler):
    """Opens its file for each line: the folder may be renamed or removed in between."""

    def __init__(self, file: Path, *, aloud: bool) -> None:
        super().__init__(logging.WARNING)
        self._file, self._aloud = file, aloud
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line."""
        try:
            line = hide_password(self.format(record)).rstrip()
        except Exception:  # a library's format and its arguments may not fit
            return
        with (
            suppress(OSError),
            self._file.open("a", encoding="utf-8", errors="backslashreplace") as log,
        ):
            log.write(f"{line}\n")
        if self._aloud:
            say(line)
