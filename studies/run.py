"""One call from a definition to its results: folder, tracking, cluster, session, analysis."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks import Block
from studies.cluster import check_resources, joined_cluster, local_resources
from studies.confirmation import plan_confirmation
from studies.definition import Study, hide_password
from studies.folder import StudyFolder
from studies.progress import StudyProgress
from studies.provenance import provenance
from studies.results import Results, write_results
from studies.session import Session
from studies.sqlite import tune_sqlite
from studies.tables import write_parquet
from studies.tracking import Tracker, tracking_uri

__all__ = ["Outcome", "confirm_study", "run_study"]


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
        ConfigError: before anything has started, if the data, the folder, the store or the cluster
            cannot serve the study.
    """
    study.data.load(study.seed)  # before anything starts: every block would fail without it
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
            {
                "mlflow_run": tracker.parent,
                "mlflow_experiment": tracker.experiment,
                "tracking_uri": hide_password(tracker.uri),
            }
        )
        return _run(study, folder, tracker, address)


def confirm_study(
    folder: StudyFolder, *, seeds: int | None = None, address: str | None = None
) -> Outcome:
    """Rerun the winners of a finished search on fresh seeds, and judge them.

    A round that was begun and not finished is gone on with.

    Args:
        folder: of the study.
        seeds: how many; None asks the power analysis.
        address: of a Ray cluster; None starts one on this machine.

    Raises:
        ConfigError: if the search is not finished, or has no winner to confirm, or the data are
            nowhere.
    """
    study, rounds = folder.study(), folder.confirmations()
    study.data.load(study.seed)
    if folder.is_locked():
        raise ConfigError("", "another process is running this study", "wait", str(folder.path))
    if folder.path.name != study.name:
        problem = f"holds the study {study.name!r} under another name"
        raise ConfigError("", problem, f"name it {study.name}", str(folder.path))
    open_round = rounds and any(folder.recorded(block) is None for block in rounds[-1].blocks())
    if open_round and seeds is not None and seeds != len(rounds[-1].seeds):
        problem = f"{seeds}, but a round of {len(rounds[-1].seeds)} is not finished"
        raise ConfigError("--seeds", problem, "leave it out to go on with that")
    if not open_round:
        own = study.confirm_seeds if study.confirms() else 0
        if not _searched(study, folder):
            raise ConfigError("", "its search is not finished", "finish it first", str(folder.path))
        members = folder.gather("members")
        search = members[members[keys.PHASE] == keys.SEARCH] if len(members) else members
        if search.empty:
            raise ConfigError("", "has no search to confirm", "raise confirm_seeds", study.name)
        folder.add_confirmation(
            plan_confirmation(
                study,
                search,
                number=len(rounds) + (2 if study.confirms() else 1),
                used=own + sum(len(each.seeds) for each in rounds),
                seeds=seeds,
            )
        )
    return run_study(study, folder.path.parent, address=address, resume=True)


def _searched(study: Study, folder: StudyFolder) -> bool:
    """Whether every block of the search is recorded."""
    return all(
        folder.recorded(Block(keys.SEARCH, arm, index, (), ())) is not None
        for arm in study.arms
        for index in range(-(-study.trials(arm) // study.block_size))
    )


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
    write_parquet(tracker.runs(), folder.tables / "runs.parquet")
    results = write_results(study, folder)
    tracker.close(
        finished=finished,
        metrics=results.metrics(),
        tags=results.tags(),
        artifacts=_artifacts(folder, results, finished=finished),
    )
    if finished:
        folder.sweep()
    return Outcome(finished, dict(failures), folder, results)


def _artifacts(folder: StudyFolder, results: Results, *, finished: bool) -> list[tuple[Path, str]]:
    """The files that belong to the parent run, with their folders."""
    files = [(folder.definition, ""), *((path, "figures") for path in results.figures)]
    files += [(path, "") for path in (folder.summary, folder.report) if path.exists()]
    files += [(path, "tables") for path in results.tables]
    if finished:
        files += [(path, "tables") for path in sorted(folder.tables.glob("*.parquet"))]
    return files
