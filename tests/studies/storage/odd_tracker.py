"""A tracker that prints, logs, raises and sleeps, for a process of its own."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

import pandas as pd

from dynloss_core.config import ConfigError
from studies.storage.tracking.base import Unreachable
from studies.storage.tracking.no_tracker import NoTracker
from tests.services import SECONDS

__all__ = ["odd", "refusing"]


class OddTracker(NoTracker):
    """Prints, logs, raises and sleeps."""

    def __init__(self) -> None:
        self.answers = 0

    def runs(self) -> pd.DataFrame:
        self.answers += 1
        sys.stdout.write("between the replies\n")
        os.write(1, b"and past Python")
        return pd.DataFrame({"pid": [os.getpid()], "answers": [self.answers]})

    def discard(self) -> None:
        class OddError(Exception):
            """One that cannot be pickled."""

        raise OddError("in words")

    def kept(self) -> dict[str, object]:
        logging.getLogger("mlflow.here").warning("%s is %s", "this", object)
        raise Unreachable("away")

    def is_finished(self, block: object) -> bool:
        time.sleep(SECONDS)
        return True


def odd() -> Callable[[], OddTracker]:
    return OddTracker


def refusing() -> Callable[[], NoTracker]:
    def connect() -> NoTracker:
        raise ConfigError("storage.tracking_uri", "no store", "give one")

    return connect
