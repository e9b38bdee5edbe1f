"""What MLflow has of the studies of tests."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run

from dynloss_core import keys
from studies.storage.tracking.repeating_client import PARENT
from studies.storage.tracking.trial_content import CURVES, TAG

__all__ = ["TRAIN_LOSS", "runs_in", "trial_of"]

TRAIN_LOSS = f"{CURVES}{keys.TRAIN_LOSS}"
"""A curve, as MLflow calls it."""


def trial_of(run: Run) -> str:
    """Phase, arm and number of a trial's run: `search/static/3`; the name of a study's."""
    tags = run.data.tags
    if PARENT not in tags:
        return str(run.info.run_name)
    return "/".join(tags[f"{TAG}{key}"] for key in (keys.PHASE, keys.ARM, keys.TRIAL))


def runs_in(client: MlflowClient, condition: str = "") -> list[Run]:
    """The runs of the experiment that studies are in unless told otherwise."""
    experiment = client.get_experiment_by_name("dynloss")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], condition, max_results=1000))
