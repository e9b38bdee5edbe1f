"""One call from a definition to its results: folder, tracking, cluster, session, analysis."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from dynloss_core.config import ConfigError
from studies.cluster import check_resources, joined_cluster, local_resources
from studies.definition import Study, hide_password
from studies.folder import StudyFolder
from studies.progress import StudyProgress
from studies.provenance import provenance
from studies.results import Results, write_results
from studies.session import Session
from studies.sqlite import tune_sqlite
from studies.tracking import Tracker, tracking_uri

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
    with ExitStack() as stack:
        if address is None:
            check_resources(study, local_resources())
        else:  # before anything is written
            check_resources(study, stack.enter_context(joined_cluster(address)))
        tune_sqlite()
        folder = StudyFolder.of(study, out)
        fresh = folder.begin(study, resume=resume)
        stack.enter_context(folder.locked())
        uri = tracking_uri(study, folder)
        try:
            tracker = Tracker(study, folder.state()["study_id"], uri, out / "artifacts")
        except ConfigError:
            if fresh:
                folder.discard()
            raise
        folder.write_state(
            {"mlflow_run": tracker.parent, "tracking_uri": hide_password(tracker.uri)}
        )
        return _run(study, folder, tracker, address)


def _run(study: Study, folder: StudyFolder, tracker: Tracker, address: str | None) -> Outcome:
    """Train what is left, then write the results, whatever happened."""
    finished = False
    failures: dict[str, str] = {}
    try:
        with StudyProgress(study) as progress:
            session = Session(study, folder, tracker, progress)
            failures = session.failures
            if not session.prepared():
                origin = provenance()
                folder.write_state({"provenance": origin})
                tracker.tag_study(origin)
                with joined_cluster(None) if address is None else nullcontext():
                    from studies.distribution import train

                    train(session)
            finished = session.finished
    except KeyboardInterrupt:  # where Tune does not catch it: while Ray starts or stops
        pass
    results = write_results(study, folder)
    tracker.close(
        finished=finished,
        metrics=results.metrics(),
        tags={"verdict": results.verdict.outcome} if results.verdict else {},
        artifacts=_artifacts(folder, results, finished=finished),
    )
    if finished:
        folder.sweep()
    return Outcome(finished, dict(failures), folder, results)


def _artifacts(folder: StudyFolder, results: Results, *, finished: bool) -> list[tuple[Path, str]]:
    """The files that belong to the parent run, with their folders."""
    files = [(folder.definition, ""), *((path, "figures") for path in results.figures)]
    if folder.verdict.exists():
        files.append((folder.verdict, ""))
    if finished:
        files += [(path, "tables") for path in sorted(folder.tables.glob("*.parquet"))]
    return files
