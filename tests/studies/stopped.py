"""Studies that somebody asks to stop."""

from __future__ import annotations

import threading
from pathlib import Path

from studies.definition.study import Study
from studies.runner.run_study import RunResult, run_study
from studies.storage.status import study_status
from studies.storage.study_folder import StudyFolder
from tests.services import wait_until

__all__ = ["stopped_once_it_trains", "trains"]


def trains(folder: StudyFolder) -> bool:
    """Whether a block has been trained for a while."""
    return folder.exists() and study_status(folder).trained > 0


def stopped_once_it_trains(study: Study, out: Path) -> RunResult:
    """The outcome of a study that somebody asks to stop as soon as a block has been trained for a
    while."""
    folder = StudyFolder.of(study, out)

    def ask_to_stop() -> None:
        wait_until(lambda: trains(folder))
        folder.ask_to_stop()

    asking = threading.Thread(target=ask_to_stop)
    asking.start()
    outcome = run_study(study, out)
    asking.join()
    return outcome
