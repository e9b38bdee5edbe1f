"""How far a study has got, counted from its folder: a running driver is not disturbed, and any
machine that sees the folder may ask."""

from __future__ import annotations

from collections.abc import Mapping

from studies.storage.phase_counts import PhaseCounts, counted_rows
from studies.storage.status_file import StudyStatus, keep_status, kept_status, with_results
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

__all__ = ["status_of", "study_status"]


def study_status(folder: StudyFolder) -> StudyStatus:
    """How far the study in a folder has got, as its folder keeps it or counted again.

    Raises:
        ConfigError: if it has to be counted, and a file of it is damaged or was edited.
    """
    kept = kept_status(folder)
    if kept is not None:
        return kept
    stored = StoredStudy.read(folder)
    counts = PhaseCounts(stored.study, stored.rounds)
    counts.add(counted_rows(folder.parts.gather("members"), stored.study.objective))
    status = status_of(stored, counts, folder.parts.failures())
    if not status.is_driven:
        keep_status(folder, status)
    return status


def status_of(stored: StoredStudy, counts: PhaseCounts, failures: Mapping[str, str]) -> StudyStatus:
    """The status of a study, without what only its driver knows.

    Args:
        stored: the study.
        counts: of all networks that it has trained.
        failures: blocks that failed, and why.
    """
    study, folder = stored.study, stored.folder
    status = StudyStatus(
        name=study.name,
        mode=study.mode,
        objective=study.objective,
        networks=stored.networks,
        trained=float(counts.networks),
        is_driven=folder.is_locked(),
        machine="",
        networks_per_minute=None,
        seconds_left=None,
        blocks={},
        failures=dict(failures),
        phases=counts.phases(),
        summary=None,
    )
    return with_results(status, folder)
