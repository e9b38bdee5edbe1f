"""One call from a definition to its results: folder, tracking, cluster, session, analysis."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dynloss_core.config import ConfigError
from studies.cluster import check_resources, joined_cluster, local_resources
from studies.definition import Study
from studies.folder import StudyFolder
from studies.progress import StudyProgress
from studies.provenance import provenance
from studies.results import Results, write_results
from studies.session import Session
from studies.tracking import Tracker

__all__ = ["Outcome", "run_study"]


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended.

    Args:
        finished: whether every block is trained; false after Ctrl-C.
        failures: blocks that could not be trained, with the last line of their error.
        folder: where everything is.
        results: what the tables say so far.
    """

    finished: bool
    failures: dict[str, str]
    folder: StudyFolder
    results: Results


def run_study(
    study: Study, out: Path, *, address: str | None = None, resume: bool = False
) -> Outcome:
    """Run a study, or what is left of it, and judge it.

    Args:
        study: the definition.
        out: output folder.
        address: of a Ray cluster; None starts one on this machine.
        resume: go on with what the folder holds; without it, a folder in use is refused.

    Raises:
        ConfigError: before anything has started, if the folder, the store or the cluster cannot
            serve the study.
    """
    if address is None:
        check_resources(study, local_resources())
    folder = StudyFolder.of(study, out)
    fresh = folder.begin(study, resume=resume)
    with folder.locked():
        uri = study.storage.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        uri = uri or folder.default_tracking_uri
        try:
            tracker = Tracker(study, folder.state()["study_id"], uri, out / "artifacts")
        except ConfigError:
            if fresh:
                folder.discard()
            raise
        origin = provenance()
        tracker.tag_study(origin)
        folder.write_state(
            {"provenance": origin, "mlflow_run": tracker.parent, "tracking_uri": uri}
        )
        finished = False
        try:
            with StudyProgress(study) as progress:
                session = Session(study, folder, tracker, progress)
                if not session.prepared():
                    with joined_cluster(address) as capacity:
                        check_resources(study, capacity)
                        from studies.distribution import train

                        train(session)
                finished = session.finished
        finally:
            results = write_results(study, folder)
            artifacts = [(folder.definition, ""), *((path, "figures") for path in results.figures)]
            if finished:
                artifacts += [(path, "tables") for path in sorted(folder.tables.glob("*.parquet"))]
            if folder.verdict.exists():
                artifacts.append((folder.verdict, ""))
            outcome = {"verdict": results.verdict.outcome} if results.verdict else {}
            tracker.close(
                finished=finished, metrics=results.metrics(), tags=outcome, artifacts=artifacts
            )
        if finished:
            folder.sweep()
        return Outcome(finished, session.failures, folder, results)
