"""MLflow's client for a server: a request whose answer is lost is sent again.

Its answer may be lost after it took effect, so none may do harm when it is sent twice. Most do not:
they read, or write what they wrote before. A second `create_run` would make a second run, so it
first looks for the one that the lost request made, by the tags that tell it from all others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, TypeVar

from dynloss_core import keys
from studies.storage.tracking import mlflow_store  # noqa: F401  sets the environment of mlflow
from studies.storage.tracking.trial_content import TAG

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from requests import HTTPError, RequestException
from urllib3.exceptions import NewConnectionError

__all__ = ["PARENT", "STUDY_ID", "RepeatingClient"]

STUDY_ID = f"{TAG}study_id"
"""The tag by which a study's run is found again."""
PARENT = "mlflow.parentRunId"
"""MLflow's own tag of a run that is below another."""

T = TypeVar("T")

_TRIES = 12  # with one answer in three lost, a call of two requests fails once in a thousand times
_FIRST_PAUSE, _MAX_PAUSE = 0.05, 2.0  # seconds
_SECONDS = 20.0  # after which nothing is sent again: the server hangs, or is gone
_PASSING = {408, 429, 500, 502, 503, 504}  # HTTP status codes
_IDENTITY = (STUDY_ID, PARENT, *(f"{TAG}{name}" for name in (keys.PHASE, keys.ARM, keys.TRIAL)))


def _until_answered(request: Callable[[], T]) -> T:
    """Send a request until it is answered, but not for ever, nor where nothing listens."""
    began, pause = time.monotonic(), _FIRST_PAUSE
    for tries_left in reversed(range(_TRIES)):
        try:
            return request()
        except (MlflowException, RequestException) as error:
            late = time.monotonic() - began > _SECONDS
            if not tries_left or late or not _is_lost(error):
                raise
        time.sleep(pause)
        pause = min(2 * pause, _MAX_PAUSE)
    raise AssertionError("the last try has returned or raised")


def _is_lost(error: Exception) -> bool:
    """Whether an error leaves open what became of a request, and the next may be answered."""
    if any(isinstance(cause, NewConnectionError) for cause in _causes(error)):
        return False
    if isinstance(error, HTTPError) and error.response is not None:  # of artifacts
        return error.response.status_code in _PASSING
    if isinstance(error, MlflowException):
        return error.get_http_status_code() in _PASSING  # type: ignore[no-untyped-call]
    return True


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        reason = getattr(cause, "reason", None)  # urllib3's, which is not always a cause
        if isinstance(reason, NewConnectionError):
            yield reason
        cause = cause.__cause__ or cause.__context__


def _repeated(name: str) -> Any:
    """A method of MLflow's client that does no harm when it is called twice."""
    request = getattr(MlflowClient, name)

    @wraps(request)
    def repeated(self: RepeatingClient, *args: Any, **kwargs: Any) -> Any:
        return _until_answered(partial(request, self, *args, **kwargs))

    return repeated


class RepeatingClient(MlflowClient):
    """MLflow's client, as far as the suite uses it, with requests that are sent until they are
    answered."""

    create_experiment = _repeated("create_experiment")  # the second is told that it exists
    delete_run = _repeated("delete_run")
    get_experiment = _repeated("get_experiment")
    get_experiment_by_name = _repeated("get_experiment_by_name")
    get_metric_history = _repeated("get_metric_history")
    get_run = _repeated("get_run")
    log_artifact = _repeated("log_artifact")
    log_batch = _repeated("log_batch")  # a metric is held once per step, time and value
    log_inputs = _repeated("log_inputs")  # an input is held once
    search_experiments = _repeated("search_experiments")
    search_runs = _repeated("search_runs")
    set_experiment_tag = _repeated("set_experiment_tag")
    set_terminated = _repeated("set_terminated")
    update_run = _repeated("update_run")

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, str] | None = None,
        run_name: str | None = None,
    ) -> Run:
        """Create a run, once.

        Args:
            experiment_id: the experiment that it is in.
            start_time: in milliseconds; now by default.
            tags: its tags, among them the study's identity, or the trial's and its parent.
            run_name: what MLflow shows.
        """
        tags, create, first = tags or {}, super().create_run, True

        def created() -> Run:
            nonlocal first
            if not first and (run := self._run_of(experiment_id, tags)) is not None:
                return run
            first = False
            return create(experiment_id, start_time, tags, run_name)

        return _until_answered(created)

    def _run_of(self, experiment: str, tags: dict[str, str]) -> Run | None:
        """The run that an earlier request with these tags made."""
        identity = [key for key in _IDENTITY if key in tags]
        condition = " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in identity)
        found = self.search_runs([experiment], condition, max_results=1)
        return found[0] if found else None
