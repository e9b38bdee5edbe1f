"""One call from a definition to its results: folder, delivery, cluster, session, analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks.block import Block
from studies.blocks.provenance import provenance
from studies.cluster.ray_cluster import check_resources, joined_cluster, local_resources
from studies.definition.sqlite import close_sqlite, tune_sqlite
from studies.definition.study import Study
from studies.messages import say
from studies.report.study_results import Results, write_results
from studies.runner.extension import due_confirmation, extend
from studies.runner.progress import StudyProgress
from studies.runner.session import Session
from studies.search.confirmation import plan_confirmation
from studies.storage.origins import refuse_other_code
from studies.storage.place import settle
from studies.storage.reuse import KnownNetworks
from studies.storage.sealed_files import write_parquet
from studies.storage.stored_plan import optuna_of
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_delivery import delivery_to_mlflow
from studies.storage.write_errors import not_written

__all__ = ["Outcome", "confirm_study", "run_study", "sync_study"]


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended.

    Args:
        finished: whether every block is trained; false after Ctrl-C.
        failures: blocks that could not be trained, with the last line of their error.
        unreachable: why MLflow could not be reached at the end; empty if everything is delivered.
        folder: where everything is.
        results: what the tables say so far.
    """

    finished: bool
    failures: dict[str, str]
    unreachable: str
    folder: StudyFolder
    results: Results


def run_study(
    study: Study,
    out: Path,
    *,
    address: str | None = None,
    resume: bool = False,
    more: int | None = None,
    reuse: bool = True,
    code_changed: bool = False,
    before: Callable[[], None] | None = None,
) -> Outcome:
    """Run a study, or what is left of it, and judge it.

    Args:
        study: the definition.
        out: output folder.
        address: the address of a Ray cluster; None starts one on this machine.
        resume: go on with what the folder holds; without it, a folder in use is refused.
        more: trials to add to each arm of a finished study.
        reuse: take networks that were trained before from where they are recorded (see `reuse`).
        code_changed: go on with other code or versions than those that the study was trained with.
        before: done once the study is known to be able to run, and nobody else runs it.

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
        stack.callback(close_sqlite)
        folder = StudyFolder.of(study, out)
        if more is not None and not folder.exists():
            raise ConfigError(
                "--extend", "there is no such study", "run it first", str(folder.path)
            )
        stack.enter_context(folder.locked())
        fresh = folder.begin(study, resume=resume or more is not None)
        settle(folder)
        study = replace(study, extensions=folder.study().extensions)
        if not fresh and not code_changed:
            refuse_other_code(study, folder, trains=more is not None or before is not None)
        if more is not None:
            study = extend(study, folder, more)
        elif not fresh and (changed := folder.differences(study)):  # that changes no result
            say(f"updated from your file: {'; '.join(changed)}")
            folder.write_definition(study)
        if before is not None:
            before()
        delivery = None
        try:
            delivery = stack.enter_context(delivery_to_mlflow(study, folder, at_once=fresh))
            return _run(study, folder, delivery, address, reuse=reuse)
        except ConfigError:
            if fresh and not folder.has_training():
                if delivery is not None:
                    delivery.ask(lambda tracker: tracker.discard())
                folder.discard()
            raise


def sync_study(folder: StudyFolder) -> tuple[int, str]:
    """Deliver to MLflow what an earlier session could not.

    Args:
        folder: the folder of the study.

    Returns:
        How many trials were delivered, and where to.

    Raises:
        ConfigError: if MLflow cannot be reached, or a driver is at work.
    """
    study = folder.study()
    tune_sqlite()
    with ExitStack() as stack:
        stack.callback(close_sqlite)
        stack.enter_context(folder.locked())
        settle(folder)
        delivery = stack.enter_context(delivery_to_mlflow(study, folder, at_once=True))
        with _closing_its_run(folder, delivery):
            with StudyProgress(study) as progress:
                session = Session(study, folder, delivery, progress)
                session.recall()
            _keep_runs(folder, delivery)
            results = write_results(study, folder)
        _conclude(folder, delivery, results, finished=session.finished)
        if delivery.problem:
            raise ConfigError("storage.tracking_uri", delivery.problem, "try again later")
        return delivery.delivered, folder.tracking_uri()


def confirm_study(
    folder: StudyFolder,
    *,
    seeds: int | None = None,
    address: str | None = None,
    code_changed: bool = False,
) -> Outcome:
    """Rerun the winners of a finished search on fresh seeds, and judge them.

    An unfinished round is resumed.

    Args:
        folder: the folder of the study.
        seeds: how many; None asks the power analysis.
        address: the address of a Ray cluster; None starts one on this machine.
        code_changed: as in `run_study`.

    Raises:
        ConfigError: if the search is not finished, or has no winner to confirm, or the data are
            nowhere.
    """
    study, rounds = folder.study(), folder.confirmations()
    folder.refuse_lost_rounds()
    study.data.load(study.seed)
    if folder.is_locked():
        raise ConfigError("", "another process is running this study", "wait", str(folder.path))
    if folder.path.name != study.name:
        problem = f"holds the study {study.name!r} under another name"
        raise ConfigError("", problem, f"name it {study.name}", str(folder.path))
    open_round = rounds and any(
        folder.parts.recorded(block) is None for block in rounds[-1].blocks()
    )
    if open_round and seeds is not None and seeds != len(rounds[-1].seeds):
        problem = f"{seeds}, but a round of {len(rounds[-1].seeds)} is not finished"
        raise ConfigError("--seeds", problem, "leave it out to go on with that")
    if not open_round:
        own = study.confirm_seeds if study.has_own_round() else 0
        if not _searched(study, folder):
            raise ConfigError("", "its search is not finished", "finish it first", str(folder.path))
        members = folder.parts.gather("members")
        search = members[members[keys.PHASE] == keys.SEARCH] if len(members) else members
        if search.empty:
            raise ConfigError("", "has no search to confirm", "raise confirm_seeds", study.name)
        planned = plan_confirmation(
            study,
            search,
            number=len(rounds) + (2 if study.has_own_round() else 1),
            used=own + sum(len(each.seeds) for each in rounds),
            seeds=seeds,
        )
    return run_study(
        study,
        folder.path.parent,
        address=address,
        resume=True,
        code_changed=code_changed,
        before=None if open_round else lambda: folder.add_confirmation(planned),
    )


def _searched(study: Study, folder: StudyFolder) -> bool:
    """Whether every block of the search is recorded."""
    return all(
        folder.parts.recorded(Block(keys.SEARCH, arm, index, (), ())) is not None
        for arm in study.arms
        for index in range(len(study.search_blocks(arm)))
    )


def _run(
    study: Study, folder: StudyFolder, delivery: Delivery, address: str | None, *, reuse: bool
) -> Outcome:
    """Train what is left, then write the results."""
    with _closing_its_run(folder, delivery):
        finished, failures = _train(study, folder, delivery, address, reuse=reuse)
        _keep_runs(folder, delivery)
        results = write_results(study, folder)
    _conclude(folder, delivery, results, finished=finished)
    if finished:
        folder.sweep()
    return Outcome(finished, failures, delivery.problem, folder, results)


@contextmanager
def _closing_its_run(folder: StudyFolder, delivery: Delivery) -> Iterator[None]:
    """Work on a study, and close its run in MLflow if that fails.

    Raises:
        ConfigError: if a file of the study cannot be written.
    """
    try:
        yield
    except Exception as error:
        with suppress(Exception):  # the first fault is the one to tell
            _conclude(folder, delivery, None, finished=False)
        if isinstance(error, OSError) and error.filename is not None:
            remedy = "make it writable, and go on with --resume"
            raise not_written(error, folder.path, remedy) from error
        raise


def _train(
    study: Study, folder: StudyFolder, delivery: Delivery, address: str | None, *, reuse: bool
) -> tuple[bool, dict[str, str]]:
    """Train what is left: whether all is trained then, and the blocks that failed, with why."""
    failures: dict[str, str] = {}
    with suppress(KeyboardInterrupt), optuna_of(folder):  # Tune catches it but while Ray starts
        while True:
            with StudyProgress(study, file=folder.progress) as progress:
                known = KnownNetworks(study, folder) if reuse else None
                session = Session(study, folder, delivery, progress, known)
                failures = session.failures
                if not session.prepared():
                    folder.write_state({"provenance": provenance()})
                    with joined_cluster(None) if address is None else nullcontext():
                        from studies.cluster.tune_driver import train

                        train(session)
            if not session.finished:
                break
            due = due_confirmation(study, folder)
            if due is None:
                return True, dict(failures)
            folder.add_confirmation(due)
    return False, dict(failures)


def _keep_runs(folder: StudyFolder, delivery: Delivery) -> None:
    """Keep the run of each trial for the report, if MLflow can be reached."""
    runs = delivery.ask(lambda tracker: tracker.runs())
    if runs is not None:
        write_parquet(runs, folder.tables / "runs.parquet")


def _conclude(
    folder: StudyFolder, delivery: Delivery, results: Results | None, *, finished: bool
) -> None:
    """Close the study's run in MLflow, if it can be reached; without results if there are none."""
    origin = {key: str(value) for key, value in folder.state().get("provenance", {}).items()}
    metrics, tags, artifacts = {}, origin, []
    if results is not None:
        metrics, tags = results.metrics(), {**origin, **results.tags()}
        artifacts = _artifacts(folder, results, finished=finished)
    delivery.ask(
        lambda tracker: tracker.close(
            finished=finished, metrics=metrics, tags=tags, artifacts=artifacts
        )
    )


def _artifacts(folder: StudyFolder, results: Results, *, finished: bool) -> list[tuple[Path, str]]:
    """The files that belong to the parent run, with their folders."""
    files = [(folder.definition, ""), *((path, "figures") for path in results.figures)]
    files += [(path, "") for path in (folder.summary, folder.report) if path.exists()]
    files += [(path, "tables") for path in results.tables]
    if finished:
        files += [(path, "tables") for path in sorted(folder.tables.glob("*.parquet"))]
    return files
