"""Looking at a study again and again, until it has decided or was looked at often enough."""

from __future__ import annotations

from studies.definition.options import BackendName
from studies.messages import say
from studies.runner.rounds import looks_so_far, refuse_more_looks
from studies.runner.run_study import RunResult, confirm_study
from studies.storage.study_folder import StudyFolder

__all__ = ["confirm_until_decided"]


def confirm_until_decided(
    folder: StudyFolder,
    *,
    at_most: int,
    seeds: int | None = None,
    address: str | None = None,
    backend: BackendName | None = None,
    code_changed: bool = False,
    quiet: bool = False,
    verbose: bool = False,
) -> RunResult:
    """Confirm again and again, until no verdict is undecided. Each look counts (see
    `studies.analysis.statistics.alpha_spending`), so that looking until one likes what one sees
    finds no more than looking once may.

    Args:
        folder: the folder of the study.
        at_most: most looks in all, those of earlier commands included.
        seeds: as in `confirm_study`, of each round.
        address: as in `confirm_study`.
        backend: as in `confirm_study`.
        code_changed: as in `run_study`.
        quiet: as in `run_study`.
        verbose: as in `run_study`.

    Raises:
        ConfigError: as `confirm_study` does, and if the study was looked at as often before, or
            nothing is undecided.
    """
    refuse_more_looks(folder, at_most)
    while True:
        outcome = confirm_study(
            folder,
            seeds=seeds,
            address=address,
            backend=backend,
            code_changed=code_changed,
            quiet=quiet,
            verbose=verbose,
        )
        verdicts = outcome.results.analysis.verdicts
        undecided = sum(verdict.test.outcome == "undecided" for verdict in verdicts)
        look = looks_so_far(folder)
        if not outcome.finished or outcome.failures or not undecided or look >= at_most:
            return outcome
        say(f"look {look}: {undecided} of {len(verdicts)} undecided; looking again")
