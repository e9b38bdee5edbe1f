"""The run of a whole study in MLflow: closed with its results, or without if it is cut short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from studies.storage.sealed_files import write_parquet
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.write_errors import not_written

if TYPE_CHECKING:
    from studies.report.study_results import Results

__all__ = ["closing_its_run", "conclude", "keeps_runs"]


@contextmanager
def closing_its_run(stored: StoredStudy, delivery: Delivery) -> Iterator[None]:
    """Work on a study, and close its run in MLflow if that fails, or is interrupted.

    Raises:
        ConfigError: if a file of the study cannot be written.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        with suppress(Exception):  # the first error is the one to report
            state = stored.folder.state()  # with what was written since
            conclude(replace(stored, state=state), delivery, None, finished=False)
        if isinstance(error, OSError) and error.filename is not None:
            remedy = "make it writable and continue with --resume"
            raise not_written(error, stored.folder.path, remedy) from error
        raise


def keeps_runs(stored: StoredStudy, delivery: Delivery) -> bool:
    """Write down the run of each trial for the report, if MLflow can be reached and has others than
    are written down, and return whether it has."""
    runs, written = delivery.ask(lambda tracker: tracker.runs()), stored.folder.runs()
    if runs is None or runs.equals(written) or (runs.empty and written.empty):
        return False
    write_parquet(runs, stored.folder.tables / "runs.parquet")
    return True


def conclude(
    stored: StoredStudy, delivery: Delivery, results: Results | None, *, finished: bool
) -> None:
    """Close the study's run in MLflow, with the results if there are any, if it can be reached."""
    origin = {key: str(value) for key, value in stored.state.get("provenance", {}).items()}
    metrics, tags, artifacts = {}, origin, []
    findings: list[str] = []
    warnings: list[str] = []
    trained = ""
    if results is not None:
        metrics, tags = results.metrics(), {**origin, **results.tags()}
        findings, warnings = results.analysis.findings(), results.analysis.warnings()
        trained = str(results.counts)
        artifacts = _artifacts(stored.folder, results, finished=finished)
    delivery.ask(
        lambda tracker: tracker.close(
            finished=finished,
            metrics=metrics,
            tags=tags,
            artifacts=artifacts,
            findings=findings,
            warnings=warnings,
            trained=trained,
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
