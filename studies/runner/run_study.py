"""One call from a definition to its results: folder, delivery, cluster, session, analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynloss_core.config import ConfigError
from dynloss_core.plugins import load_plugin, source_of
from studies.blocks.provenance import provenance
from studies.cluster.backends import backend_of
from studies.cluster.capacity import Capacity, check_resources
from studies.definition.options import BackendName
from studies.definition.redaction import hide_password
from studies.definition.sqlite import tuned_sqlite
from studies.definition.study import Study
from studies.interrupts import kept_interrupts, noted_interrupts
from studies.messages import say
from studies.runner.block_layout import laid_out, layout_tags, needs_layout
from studies.runner.extension import extended, searched_again
from studies.runner.library_log import library_log
from studies.runner.panel import StudyPanel
from studies.runner.parent_run import closing_its_run, conclude, keeps_runs
from studies.runner.progress import StudyProgress
from studies.runner.rounds import due_round, next_rounds, with_rounds
from studies.runner.session import Session
from studies.storage.gathered_tables import Frames
from studies.storage.origins import refuse_other_code
from studies.storage.place import located
from studies.storage.reuse import KnownNetworks
from studies.storage.status_file import keep_status
from studies.storage.stored_plan import optuna_of
from studies.storage.stored_study import StoredStudy, stored_definition
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.trackers import delivery_of

if TYPE_CHECKING:
    from studies.report.study_results import Results

__all__ = ["RunResult", "confirm_study", "run_study", "sync_study"]


@dataclass(frozen=True)
class RunResult:
    """How a run of a study ended.

    Args:
        finished: whether every block has ended; false after Ctrl-C.
        failures: blocks that failed, with the last line of their error.
        unreachable: why MLflow could not be reached at the end; empty if everything is delivered.
        folder: the folder of the study.
        results: the results so far.
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
    more_searches: int | None = None,
    reuse: bool = True,
    code_changed: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> RunResult:
    """Run a study, or what is left of it, and write its results.

    Args:
        study: the definition.
        out: output folder.
        address: the address of a Ray cluster; None starts one on this machine.
        resume: whether to continue the study in the folder; if not, such a folder is refused.
        more: number of trials to add to each arm of a finished study.
        more_searches: number of searches to add to a finished study.
        reuse: whether to reuse networks that were trained before (see `studies.storage.reuse`).
        code_changed: whether to continue with other code or versions than the study began with.
        quiet: whether to show nothing of its progress.
        verbose: whether to show what libraries log, which is kept in `log.txt` anyway.

    Raises:
        ConfigError: before anything has started, if the data, the folder, the store or the cluster
            do not suit the study.
    """
    folder = StudyFolder.of(study, out)
    panel = StudyPanel(study, folder.path, quiet=quiet)
    with panel, _training_resources(study, address) as capacity:
        extends = more is not None or more_searches is not None
        if extends and not folder.exists():
            option = "--extend" if more is not None else "--extend-searches"
            problem = "there is no such study"
            raise ConfigError(option, problem, "run it first", str(folder.path))
        with folder.locked():
            stored = StoredStudy.begin(folder, study, resume=resume or extends)
            stored = located(stored)
            if not stored.is_new and not code_changed:
                refuse_other_code(stored, trains=extends)
            stored = stored.updated_from(study)
            if more is not None:
                stored = extended(stored, more)
            if more_searches is not None:
                stored = searched_again(stored, more_searches)
            with library_log(folder.log, aloud=verbose):
                stored = stored.with_state(address=address)
                return _continue(stored, panel, capacity, reuse=reuse)


def confirm_study(
    folder: StudyFolder,
    *,
    seeds: int | None = None,
    address: str | None = None,
    backend: BackendName | None = None,
    code_changed: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> RunResult:
    """Rerun the winners of a finished search on fresh seeds, and write the results.

    An unfinished round is resumed.

    Args:
        folder: the folder of the study.
        seeds: number of seeds; None leaves it to the power analysis.
        address: the address of a Ray cluster; None starts one on this machine.
        backend: what trains; by default that of the study.
        code_changed: as in `run_study`.
        quiet: as in `run_study`.
        verbose: as in `run_study`.

    Raises:
        ConfigError: if the search is not finished or has no winner, or the data are missing.
    """
    study = stored_definition(folder)
    backend = backend or study.backend
    with (
        StudyPanel(study, folder.path, quiet=quiet) as panel,
        _training_resources(replace(study, backend=backend), address) as capacity,
        folder.locked(),
    ):
        stored = located(StoredStudy.read(folder))
        stored = replace(stored, study=replace(stored.study, backend=backend))
        stored.refuse_lost_rounds()
        if folder.path.name != study.name:
            problem = f"holds the study {study.name!r} under another name"
            raise ConfigError("", problem, f"name it {study.name}", str(folder.path))
        planned = next_rounds(stored, seeds)
        if not code_changed:
            refuse_other_code(stored, trains=bool(planned))
        stored = with_rounds(stored, planned)
        with library_log(folder.log, aloud=verbose):
            return _continue(stored.with_state(address=address), panel, capacity)


def sync_study(folder: StudyFolder) -> tuple[int, str]:
    """Deliver to MLflow what an earlier session could not.

    Args:
        folder: the folder of the study.

    Returns:
        How many trials were delivered, and where to.

    Raises:
        ConfigError: if MLflow cannot be reached, or a driver is running.
    """
    from studies.report.study_results import write_results

    stored_definition(folder)  # refused before the folder is locked
    with tuned_sqlite(), folder.locked():
        stored = located(StoredStudy.read(folder))
        with (
            folder.parts.read_ahead() as earlier,
            delivery_of(stored, at_once=True) as (delivery, stored),
        ):
            with closing_its_run(stored, delivery):
                with StudyProgress(stored.study) as progress:
                    session = Session(stored, delivery, progress, earlier=earlier())
                    session.recall()
                keeps_runs(stored, delivery)
                results = write_results(stored)
            conclude(stored, delivery, results, finished=session.finished)
            uri = delivery.ask(lambda tracker: tracker.uri)
            if delivery.problem or uri is None:
                raise ConfigError("storage.tracking_uri", delivery.problem, "try again later")
            return delivery.delivered, hide_password(uri)


@contextmanager
def _training_resources(study: Study, address: str | None) -> Iterator[Capacity]:
    """What machines have. Refuse a study whose data are missing or whose blocks are too large for
    them, before anything is written: every block would fail."""
    for plugin in study.plugins:  # another text of a file may have been read since
        load_plugin(plugin.file, source_of(plugin))
    study.data.load(study.seed)
    with backend_of(study).joined(address) as capacity, tuned_sqlite():
        check_resources(study, capacity)
        yield capacity


def _continue(
    stored: StoredStudy, panel: StudyPanel, capacity: Capacity, *, reuse: bool = True
) -> RunResult:
    """Train what is left and write the results; a study that could not even start is discarded."""
    folder, delivery = stored.folder, None
    if stored.is_new:  # else there may be nothing to train
        backend_of(stored.study).start()
    with ExitStack() as stack:
        try:
            if needs_layout(stored.study):
                panel.at("measuring blocks")
            stored = laid_out(stored, capacity)
            earlier = stack.enter_context(folder.parts.read_ahead())
            opening = delivery_of(stored, at_once=stored.is_new)
            delivery, stored = stack.enter_context(opening)
            return _run(stored, delivery, panel, earlier, reuse=reuse)
        except ConfigError:
            if stored.is_new and not folder.has_training():
                if delivery is not None:
                    delivery.ask(lambda tracker: tracker.discard())
                folder.discard()
            raise


def _run(
    stored: StoredStudy,
    delivery: Delivery,
    panel: StudyPanel,
    earlier: Callable[[], Frames],
    *,
    reuse: bool,
) -> RunResult:
    """Train what is left, then write the results, and then wait for MLflow."""
    from studies.analysis.statistics.power import power_warnings
    from studies.report.study_results import write_report, write_results

    with closing_its_run(stored, delivery):
        for warning in power_warnings(stored.study) if stored.is_new else ():
            say(warning)
        stored, finished, failures = _train(stored, delivery, panel, earlier, reuse=reuse)
        backend_of(stored.study).end()
        panel.at("writing results")
        if finished and panel.has_lines:
            say("trained; writing tables, figures and report")
        with kept_interrupts():
            results = write_results(stored)
            if keeps_runs(stored, delivery):
                write_report(stored, results)  # whose table leads to them
    conclude(stored, delivery, results, finished=finished)
    if finished:
        stored.folder.sweep()
    return RunResult(finished, failures, delivery.problem, stored.folder, results)


def _train(
    stored: StoredStudy,
    delivery: Delivery,
    panel: StudyPanel,
    earlier: Callable[[], Frames] | None,
    *,
    reuse: bool,
) -> tuple[StoredStudy, bool, dict[str, str]]:
    """Train what is left, and return the study as it is then, whether all blocks have ended, and
    the ones that failed, with the reasons."""
    folder, failures, backend = stored.folder, {}, backend_of(stored.study)

    def asked_again() -> bool:
        again = folder.is_asked_to_stop()
        folder.ask_to_stop()  # should the exception be dropped, Tune's callback still sees it
        return again

    def note() -> bool:
        return asked_again() or backend.catches_interrupts

    # Tune catches Ctrl-C, except while Ray starts; of other signals it knows nothing
    with noted_interrupts(note, asked_again), suppress(KeyboardInterrupt), optuna_of(folder):
        while True:
            with StudyProgress(stored.study, file=folder.progress, panel=panel) as progress:
                known = KnownNetworks(stored) if reuse else None
                recorded = earlier() if earlier else None
                session = Session(stored, delivery, progress, known, recorded)
                earlier = None  # a later round has recorded more
                failures = session.failures
                try:
                    if not session.has_nothing_to_train():
                        stored = stored.with_state(
                            provenance={**provenance(), **layout_tags(stored)}
                        )
                        backend.train(session)
                finally:
                    keep_status(folder, session.status())
            if not session.finished:
                break
            due = due_round(stored)
            if due is None:
                return stored, True, dict(failures)
            stored = stored.with_round(due)
    return stored, False, dict(failures)
