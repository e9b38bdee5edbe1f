"""Where Ray has blocks trained; nothing is trained here.

`python -m tests.studies.cluster.placement FOLDER KIND` leaves one file per block: when it was at
work, and on what. The blocks of kind `quarters` ask for a quarter of a GPU each, on a Ray node that
claims one; those of kind `short` take less time than a process takes to start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from studies.cluster.ray_cluster import set_environment
from studies.storage.stored_study import StoredStudy

set_environment(None)

import ray  # noqa: E402  its environment comes first

from studies.cluster.tune_driver import train  # noqa: E402
from studies.definition.study_files import study_from_mapping  # noqa: E402
from studies.runner.progress import StudyProgress  # noqa: E402
from studies.runner.session import Session  # noqa: E402
from studies.storage.study_folder import StudyFolder  # noqa: E402
from studies.storage.tracking.delivery import Delivery  # noqa: E402
from studies.storage.tracking.mlflow_tracker import MLflowTracker  # noqa: E402
from tests.benchmarks.scale import DEFINITION, SleepingTrainable  # noqa: E402

AT_ONCE, SECONDS_TO_WAIT = 4, 60
SECONDS_TO_START = 2.0
MAP = {"mode": "map", "grid": {"period": 2, "amplitude": 3, "learning_rate": 2}}
LONGER = {"mode": "map", "grid": {"period": 5, "amplitude": 5, "learning_rate": 2}}


class PlacedTrainable(SleepingTrainable):
    """Says when and on what it was at work."""

    def step(self) -> dict[str, Any]:
        file = self._checkpoints.folder / f"{self._block.id}.json"
        record = {
            "began": time.time(),
            "gpus": ray.get_gpu_ids(),
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
        file.write_text(json.dumps(record))
        while self._at_work() < AT_ONCE and time.time() < record["began"] + SECONDS_TO_WAIT:
            time.sleep(0.1)
        time.sleep(2)  # one too many would come now
        result = super().step()
        file.write_text(json.dumps({**record, "ended": time.time()}))
        return result

    def _at_work(self) -> int:
        """Blocks that have begun, in all."""
        return len(list(self._checkpoints.folder.glob("search-*.json")))


class ShortTrainable(SleepingTrainable):
    """Says which process it was at work in."""

    def setup(self, config: dict[str, Any], *given: Any, **named: Any) -> None:
        time.sleep(SECONDS_TO_START)
        super().setup(config, *given, **named)

    def step(self) -> dict[str, Any]:
        file = self._checkpoints.folder / f"{self._block.id}.json"
        file.write_text(json.dumps({"process": os.getpid()}))
        return super().step()


KINDS: dict[str, tuple[type[SleepingTrainable], dict[str, Any], dict[str, int]]] = {
    "quarters": (
        PlacedTrainable,
        {**MAP, "resources": {"cpu": 1, "gpu": 0.25}},
        {"num_cpus": 8, "num_gpus": 1},
    ),
    "short": (ShortTrainable, {**LONGER, "block_size": 1}, {"num_cpus": 2}),
}


def place(out: Path, kind: str) -> None:
    """Run the study."""
    trainable, changes, machine = KINDS[kind]
    study = study_from_mapping({**DEFINITION, **changes}, source="placement")
    folder = StudyFolder.of(study, out)
    stored = StoredStudy.begin(folder, study, resume=False)
    uri = folder.default_tracking_uri
    delivery = Delivery(folder, lambda: MLflowTracker(study, "placement", uri, out / "artifacts"))
    ray.init(address="local", include_dashboard=False, **machine)
    with StudyProgress(study) as progress:
        session = Session(stored, delivery, progress)
        train(session, trainable)
        assert session.finished, session.failures
    delivery.close()
    ray.shutdown()


if __name__ == "__main__":
    from tests.studies.cluster import placement  # workers know the trainable by its module's name

    placement.place(Path(sys.argv[1]), sys.argv[2])
