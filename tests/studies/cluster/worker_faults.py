"""Workers that cannot start or do not end, on one real Ray, driven from a folder full of shadows.

`python -P -m tests.studies.cluster.worker_faults OUT MODULES KIND...` leaves in `ends.json` how the
study of each kind of fault ended. MODULES is a folder of modules that only the driver can import.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.cluster.ray_cluster import joined_cluster
from studies.runner.progress import StudyProgress
from studies.runner.session import Session
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from tests.studies.tiny import MAP, tiny_study


def kinds() -> dict[str, Any]:
    """Trainables, by the fault that they have."""
    from studies.cluster.trainable import BlockTrainable

    class Sound(BlockTrainable):
        """None: it trains, from wherever the driver was started."""

    class Raises(BlockTrainable):
        """The same error each time in one arm; in the other, what would be refused again."""

        def step(self) -> dict[str, Any]:
            arm = self._training.block.arm
            with (self._checkpoints.folder / f"tried-{arm}").open("a") as tries:
                tries.write(".")
            if arm == keys.STATIC:
                raise ConfigError("model", "is refused")
            if arm == keys.DYNAMICAL:
                raise ValueError("no such\nactivation")
            return super().step()

    class Dies(BlockTrainable):
        """Its first process is killed while it starts, the second while it trains."""

        def setup(self, config: dict[str, Any], *given: Any, **named: Any) -> None:
            super().setup(config, *given, **named)
            self._die("starts")

        def step(self) -> dict[str, Any]:
            self._die("trains")
            return super().step()

        def _die(self, when: str) -> None:
            mark = self._checkpoints.folder / f"died-as-it-{when}"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    class BadStart(BlockTrainable):
        """No process gets as far as a block."""

        def setup(self, config: dict[str, Any], *given: Any, **named: Any) -> None:
            raise RuntimeError("no\nroom")

    from only_the_driver import Unknown  # type: ignore[import-not-found]

    return {
        "sound": Sound,
        "raises": Raises,
        "dies": Dies,
        "bad_start": BadStart,
        "unknown": Unknown,
    }


def driven(trainable: Any, out: Path) -> dict[str, Any]:
    """How a study ends whose blocks are trained by this."""
    from studies.cluster.tune_driver import train

    study = tiny_study(**MAP, grid={"period": 1, "amplitude": 1, "learning_rate": 1})
    folder = StudyFolder.of(study, out)
    stored = StoredStudy.begin(folder, study, resume=False)
    uri = folder.default_tracking_uri
    delivery = Delivery(folder, lambda: MLflowTracker(study, "faults", uri, out / "artifacts"))
    said, began = io.StringIO(), time.monotonic()
    with StudyProgress(study, Console(file=said, width=1000)) as progress:
        session = Session(stored, delivery, progress)
        refusal = ""
        try:
            train(session, trainable)
        except ConfigError as error:
            refusal = str(error)
    delivery.close()
    return {
        "seconds": time.monotonic() - began,
        "finished": session.finished,
        "failures": session.failures,
        "refusal": refusal,
        "said": said.getvalue().splitlines(),
        "trained": progress._trained(),
        "tried": {path.name: len(path.read_text()) for path in folder.path.glob("tried-*")},
    }


def main(out: Path, names: list[str]) -> None:
    with joined_cluster(None):
        ends = {name: driven(kinds()[name], out / name) for name in names}
    (out / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    from tests.studies.cluster import worker_faults  # workers know the trainables by this name

    sys.path.append(sys.argv[2])
    worker_faults.main(Path(sys.argv[1]), sys.argv[3:])
