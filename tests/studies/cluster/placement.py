"""A study whose blocks ask for a quarter of a GPU, on a Ray node that claims one; nothing is trained.

`python -m tests.studies.cluster.placement FOLDER` leaves one file per block: when it was
at work, and on what.
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

ASKS = {"cpu": 1, "gpu": 0.25}
AT_ONCE, SECONDS_TO_WAIT = 4, 60
CHANGES = {"mode": "map", "grid": {"period": 2, "amplitude": 3, "learning_rate": 2}}


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


def place(out: Path) -> None:
    """Run the study."""
    study = study_from_mapping({**DEFINITION, **CHANGES, "resources": ASKS}, source="placement")
    folder = StudyFolder.of(study, out)
    stored = StoredStudy.begin(folder, study, resume=False)
    uri = folder.default_tracking_uri
    delivery = Delivery(folder, lambda: MLflowTracker(study, "placement", uri, out / "artifacts"))
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False)
    with StudyProgress(study) as progress:
        session = Session(stored, delivery, progress)
        train(session, PlacedTrainable)
        assert session.finished, session.failures
    delivery.close()
    ray.shutdown()


if __name__ == "__main__":
    from tests.studies.cluster import placement  # workers know the trainable by its module's name

    placement.place(Path(sys.argv[1]))
