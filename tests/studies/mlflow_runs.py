"""What MLflow has of the studies of tests."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run


def runs_in(client: MlflowClient, condition: str = "") -> list[Run]:
    """The runs of the experiment that studies are in unless told otherwise."""
    experiment = client.get_experiment_by_name("dynloss")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], condition, max_results=1000))
