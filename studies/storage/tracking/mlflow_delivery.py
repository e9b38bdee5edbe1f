"""The way of a study to MLflow, and what its folder keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dynloss_core.config import ConfigError
from studies.definition.redaction import hide_password
from studies.definition.study import Study
from studies.messages import say
from studies.storage.place import move_artifacts
from studies.storage.study_folder import DEFAULT, StudyFolder
from studies.storage.tracking.base import Tracker
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_store import tracking_uri
from studies.storage.tracking.mlflow_tracker import MLflowTracker

__all__ = ["delivery_to_mlflow"]


@contextmanager
def delivery_to_mlflow(study: Study, folder: StudyFolder, *, at_once: bool) -> Iterator[Delivery]:
    """The way to MLflow. A study that was begun there goes on while it is unreachable; a new one
    must reach it, so that a wrong address is seen at once.

    Raises:
        ConfigError: if it is to be reached at once and cannot.
    """
    uri = tracking_uri(study, folder)
    artifacts = folder.path.parent / "artifacts"
    own = uri == folder.default_tracking_uri

    def connect() -> Tracker:
        if own:
            move_artifacts(folder.default_store, artifacts)
        run = folder.state().get("mlflow_run")
        return MLflowTracker(study, folder.identity(), uri, artifacts, run)

    tracker = None
    try:
        tracker = connect()
    except ConfigError as error:
        if at_once:
            raise
        say(f"{error}; meanwhile the study goes on, and what it records waits on disk")
    if tracker is not None:
        folder.write_state(
            {
                "mlflow_run": tracker.parent,
                "mlflow_experiment": tracker.experiment,
                "tracking_uri": DEFAULT if own else hide_password(tracker.uri),
            }
        )
    delivery = Delivery(folder, connect, tracker)
    try:
        yield delivery
    finally:
        delivery.close()
