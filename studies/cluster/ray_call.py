"""A function called on the Ray cluster, where it has what a block needs.

Importing this module imports Ray; `studies.cluster.ray_cluster` sets up its environment first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from dynloss_core.config import ConfigError
from dynloss_core.data import chosen_folder, use_data_folder
from studies.definition.study import Study
from studies.messages import say

__all__ = ["call"]

_SECONDS_TO_START = 60.0  # before the user is told what is waited for


def call(study: Study, task: Callable[[], Any]) -> Any:
    """Call a function on a worker with the resources of a block.

    Raises:
        ConfigError: what the function refuses.
    """
    needs = {"num_cpus": study.resources.cpu, "num_gpus": study.resources.gpus}
    pending = ray.remote(_on_worker).options(**needs).remote(chosen_folder(), task)
    ended, _ = ray.wait([pending], timeout=_SECONDS_TO_START)
    if not ended:
        say("blocks are not measured yet: the cluster is busy, or its workers do not start")
    try:
        return ray.get(pending)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ConfigError):
            raise error.cause from None
        raise


def _on_worker(data_folder: str | None, task: Callable[[], Any]) -> Any:
    use_data_folder(data_folder)
    return task()
