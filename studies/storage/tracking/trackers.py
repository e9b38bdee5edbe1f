"""The table of tracking backends, by the name that a study's file gives them.

To add one, write a class with the methods of `Tracker`, and add a row here and its name to
`TrackerName`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from dynloss_core.config import ConfigError
from studies.definition.optional_packages import MissingPackageError, is_installed, require
from studies.messages import say
from studies.storage.place import move_artifacts
from studies.storage.stored_study import StoredStudy
from studies.storage.tracking.base import Tracker, Unreachable
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.no_tracker import NoTracker
from studies.storage.tracking.tracker_process import TrackerProcess

__all__ = ["TRACKERS", "delivery_of"]

_TRIALS_WORTH_A_PROCESS = 1_000


def _to_mlflow(stored: StoredStudy) -> Callable[[], Tracker]:
    if not is_installed("mlflow"):
        return _without_mlflow
    from studies.storage.tracking.mlflow_store import tracking_uri
    from studies.storage.tracking.mlflow_tracker import MLflowTracker

    folder, uri = stored.folder, tracking_uri(stored)
    artifacts = folder.path.parent / "artifacts"
    run = stored.state.get("mlflow_run")

    def connect() -> Tracker:
        nonlocal run
        if uri == folder.default_tracking_uri:
            move_artifacts(folder.default_store, artifacts)
        tracker = MLflowTracker(stored.study, stored.identity, uri, artifacts, run)
        run = tracker.parent  # for whoever connects next
        return tracker

    return connect


def _without_mlflow() -> Tracker:
    require("mlflow", "storage.tracker", "mlflow", "set storage.tracker: none")
    raise AssertionError("it was installed meanwhile")


TRACKERS: dict[str, Callable[[StoredStudy], Callable[[], Tracker]]] = {
    "mlflow": _to_mlflow,
    "none": lambda _: NoTracker,
}
"""Each takes a study and returns the function that connects to its tracker, once or again."""


@contextmanager
def delivery_of(stored: StoredStudy, *, at_once: bool) -> Iterator[tuple[Delivery, StoredStudy]]:
    """The delivery of a study to its tracker, and the study with what its folder keeps of that. A
    study that has begun continues while the tracker is unreachable, or not installed; a new one
    must reach it, so that a wrong address is noticed at once.

    Raises:
        ConfigError: if the tracker must be reached at once and cannot.
    """
    connector = TRACKERS[stored.study.storage.tracker]
    with ExitStack() as stack:
        if _is_worth_a_process(stored):
            process = TrackerProcess(connector, stored)
            stack.callback(process.end)
            connect = process.connect
        else:
            connect = connector(stored)
        tracker = None
        try:
            tracker = connect()
        except Unreachable as error:
            say(f"{error}; the study continues and keeps its records on disk")
        except ConfigError as error:
            if at_once and not isinstance(error, MissingPackageError):
                raise
            say(f"{error}; meanwhile, the study continues and keeps its records on disk")
        if tracker is not None:
            stored = stored.with_state(**tracker.kept())
        delivery = Delivery(stored.folder, connect, tracker)
        stack.callback(delivery.close)
        yield delivery, stored


def _is_worth_a_process(stored: StoredStudy) -> bool:
    """Whether a study writes enough to MLflow for a process of its own, which takes seconds of a
    core to start."""
    if stored.study.storage.tracker != "mlflow" or not is_installed("mlflow"):
        return False
    return stored.networks // stored.study.seeds_per_point >= _TRIALS_WORTH_A_PROCESS
