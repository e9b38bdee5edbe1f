"""A study's run and experiment in MLflow, found again whatever people did to them in its UI.

They may have been renamed: identifiers and tags find them. They may be in MLflow's trash: then
nothing is written to them, and nothing created in their place, until they are restored.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.definition.redaction import HIDDEN, hide_password
from studies.definition.study import Study
from studies.storage.tracking.mlflow_store import (
    is_served,  # sets the environment of what comes next
)
from studies.storage.tracking.repeating_client import STUDY_ID
from studies.storage.tracking.run_writers import ChildRun, RunRows, RunWriter
from studies.storage.tracking.runs_view import KIND, MODELS, SHARED_VIEW, runs_view
from studies.storage.tracking.study_content import data_set_of, study_params
from studies.storage.tracking.study_note import NOTE
from studies.storage.tracking.trial_content import TAG

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Param, Run, ViewType
from mlflow.exceptions import MlflowException

__all__ = ["children_of", "describe", "find_parent"]

_ONE_AT_A_TIME = threading.Lock()
_NOWHERE = "RESOURCE_DOES_NOT_EXIST"


def find_parent(
    client: MlflowClient, study: Study, study_id: str, known: str | None, artifacts: Path
) -> tuple[str, str]:
    """Find the experiment and the run of a study, or create them.

    The study's lock keeps other processes away. In this process, a session that has ended may have
    a request under way: whoever comes second waits, and finds the run.

    Args:
        client: the client of the store.
        study: the study whose run it is.
        study_id: the identity of its folder, which the run carries as a tag.
        known: the run's identifier, if the folder knows it.
        artifacts: folder for the artifacts of a new experiment in a local store.

    Raises:
        ConfigError: if one of them is in the trash; it names the command that restores it.
        MlflowException: if the store cannot be reached, and whatever else it raises.
    """
    with _ONE_AT_A_TIME:
        return _found_or_created(client, study, study_id, known, artifacts)


def describe(
    client: MlflowClient, writer: RunWriter, study: Study, experiment: str, parent: str
) -> bool:
    """Let the run of a study say what the study is, and its experiment how to show it, as far as
    they do not; return whether there is a view of its runs.

    Args:
        client: the client of the store.
        writer: of the same.
        study: the study.
        experiment: the experiment that it is in.
        parent: its run.
    """
    run = client.get_run(parent)
    held, params = run.data.params, study_params(study)
    missing = [Param(name, text) for name, text in params.items() if name not in held]
    if missing:
        writer.write([RunRows(parent, params=missing)])
    if run.inputs is None or not run.inputs.dataset_inputs:
        client.log_inputs(parent, [data_set_of(study)])
    view = f"{SHARED_VIEW}{parent}"
    wanted = {view: runs_view(study), KIND: MODELS}
    tags = set(client.get_experiment(experiment).tags)
    for key in wanted.keys() - tags:
        with suppress(MlflowException):  # a server may not let everybody
            client.set_experiment_tag(experiment, key, wanted[key])
            tags.add(key)
    return view in tags


def children_of(
    writer: RunWriter, experiment: str, parent: str
) -> dict[tuple[str, str, int], list[ChildRun]]:
    """The runs of a study's trials by phase, arm and number, the earliest first: more than one
    where an answer was lost or too late."""
    runs: dict[tuple[str, str, int], list[ChildRun]] = {}
    for run in writer.children(experiment, parent):
        phase, arm, number = (run.tags[f"{TAG}{key}"] for key in (keys.PHASE, keys.ARM, keys.TRIAL))
        runs.setdefault((phase, arm, int(number)), []).append(run)
    return runs


def _found_or_created(
    client: MlflowClient, study: Study, study_id: str, known: str | None, artifacts: Path
) -> tuple[str, str]:
    run = _earlier_run(client, study_id, known)
    if run is not None:
        experiment, run_id = str(run.info.experiment_id), str(run.info.run_id)
        _refuse_deleted(client, client.get_experiment(experiment))
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            restore = ["runs", "restore", "--run-id", run_id]
            raise _in_trash(client, f"the run {run_id}", restore)
        client.update_run(run_id, status="RUNNING")
        return experiment, run_id
    tags = {
        STUDY_ID: study_id,
        f"{TAG}{keys.STUDY}": study.name,
        f"{TAG}study_hash": study.hash,
        f"{TAG}space_hash": study.space.hash,
        NOTE: study.description,
    }
    experiment = _experiment_called(client, study.storage.experiment, artifacts)
    created = client.create_run(experiment, tags=tags, run_name=study.name)
    first = _earlier_run(client, study_id, None) or created
    if first.info.run_id != created.info.run_id:  # made meanwhile by an attempt that seemed lost
        client.delete_run(created.info.run_id)
    return str(first.info.experiment_id), str(first.info.run_id)


def _earlier_run(client: MlflowClient, study_id: str, known: str | None) -> Run | None:
    """The study's run by its identifier, else by its tag in any experiment."""
    if known is not None:
        try:
            run = client.get_run(known)
        except MlflowException as error:
            if error.error_code != _NOWHERE:  # it may be in another store
                raise
        else:
            if run.data.tags.get(STUDY_ID) == study_id:
                return run
    runs = client.search_runs(
        [experiment.experiment_id for experiment in _experiments(client)],
        f"tags.`{STUDY_ID}` = '{study_id}'",
        run_view_type=ViewType.ALL,
        order_by=["attributes.start_time", "attributes.run_id"],
    )
    runs.sort(key=lambda run: run.info.lifecycle_stage == LifecycleStage.DELETED)
    return runs[0] if runs else None


def _experiments(client: MlflowClient) -> Iterator[Experiment]:
    """All experiments of the store, including those in its trash."""
    token = None
    while True:
        page = client.search_experiments(ViewType.ALL, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _experiment_called(client: MlflowClient, name: str, artifacts: Path) -> str:
    """The identifier of the experiment with a name, created if there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        _refuse_deleted(client, experiment, "or give storage.experiment another name")
        return str(experiment.experiment_id)
    location = None if is_served(client.tracking_uri) else artifacts.absolute().as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        theirs = client.get_experiment_by_name(name)  # created by another study meanwhile
        if theirs is None:
            raise
        return str(theirs.experiment_id)


def _refuse_deleted(client: MlflowClient, experiment: Experiment, otherwise: str = "") -> None:
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        restore = ["experiments", "restore", "--experiment-id", str(experiment.experiment_id)]
        raise _in_trash(client, f"the experiment {experiment.name!r}", restore, otherwise)


def _in_trash(
    client: MlflowClient, what: str, restore: list[str], otherwise: str = ""
) -> ConfigError:
    """The refusal to write to what somebody deleted, with the command that restores it."""
    uri = hide_password(client.tracking_uri)
    store = "" if HIDDEN in uri else f"MLFLOW_TRACKING_URI={shlex.quote(uri)} "
    remedy = f"restore it: {store}{shlex.join(['mlflow', *restore])}"
    remedy = f"{remedy}; {otherwise}" if otherwise else remedy
    return ConfigError("storage.experiment", f"{what} is in MLflow's trash", remedy)
