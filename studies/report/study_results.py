"""From a study's folder to its results: tables are gathered, analysed, drawn and written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dynloss_core.atomic import write_atomically
from dynloss_core.own_command import own_command
from studies.analysis.analyses import analyse
from studies.analysis.card import Card
from studies.analysis.figures.files import PageFigure
from studies.analysis.statistics.verdict import Verdict
from studies.analysis.study_analysis import Analysis
from studies.analysis.user_analyses import AnalysisError, AnalysisFunction, analyses_of
from studies.blocks.recorder import KINDS
from studies.definition.network_counts import NetworkCounts
from studies.definition.study import Study
from studies.messages import say
from studies.report.page.html import render
from studies.report.study_figures import draw_figures
from studies.report.study_metrics import metrics_of
from studies.report.study_question import question_of
from studies.report.study_report import report_of
from studies.report.trial_table import counts_of, reused_in, trial_curves, trial_table
from studies.storage.gathered_tables import GatheredTables
from studies.storage.origins import origins_in, origins_in_words
from studies.storage.recorded_looks import looks_at
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.write_errors import not_written

__all__ = ["Results", "draw_figures", "write_report", "write_results"]


@dataclass(frozen=True, eq=False)
class Results:
    """What a study's tables show, and the files written.

    Args:
        analysis: the analysis of the study.
        figures: the figures drawn.
        tables: the tables written in addition to the study's own two.
        reused: number of networks taken from another study, by its name (see
            `studies.storage.reuse`).
        origins: the code that trained the networks (see `studies.storage.origins`).
        for_page: the figures as the report has them, by name.
        trial_curves: the curves of its trials (see `studies.report.trial_table`).
        counts: how many trials and networks there are.
    """

    analysis: Analysis
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    reused: dict[str, int]
    origins: str = ""
    for_page: Mapping[str, PageFigure] = field(default_factory=dict)
    trial_curves: Mapping[str, Any] | None = None
    counts: NetworkCounts = field(default_factory=NetworkCounts)

    def without_winner(self, study: Study) -> list[str]:
        """Arms that should have been confirmed, but have no trial to represent them."""
        return [a for a in study.arms if study.confirms() and a not in self.analysis.winners]

    def metrics(self) -> dict[str, float]:
        """What was found, as metrics of the parent run."""
        numbers = {name: float(number) for name, number in self.counts.by_name().items()}
        if reused := sum(self.reused.values()):
            numbers["networks_reused"] = float(reused)
        return {**numbers, **metrics_of(self.analysis)}

    def tags(self) -> dict[str, str]:
        """Tags of the parent run: the origin of its networks, the outcome, and its warnings."""
        verdicts = self.analysis.verdicts
        if not verdicts:
            return {"origin": self.origins}
        outcomes = [
            " ".join(
                filter(None, (verdict.label, verdict.pair_in_words, verdict.test.outcome_in_words))
            )
            for verdict in verdicts
        ]
        against = dict.fromkeys(warning for verdict in verdicts for warning in verdict.warnings)
        return {
            "origin": self.origins,
            "verdict": ", ".join(outcomes),
            "verdict_warnings": "; ".join(against) or "none",
        }


def write_results(
    stored: StoredStudy, into: Path | None = None, own: Mapping[str, AnalysisFunction] | None = None
) -> Results:
    """Gather the tables of a study, analyse them, draw the figures and write everything.

    Works on an unfinished study too, with the results so far.

    Args:
        stored: the study.
        into: where to write; None writes to the folder of the study.
        own: further analyses by name (see `studies.analysis.user_analyses`), in addition to those
            of the study's plug-ins. If one of the latter fails, the results are written without
            them.

    Raises:
        ConfigError: if a table is damaged, an analysis of `own` fails, or the results cannot be
            written.
    """
    place = stored.folder if into is None else StudyFolder(into)
    gathered = stored.folder.parts.gather_all()
    try:
        of_study = analyses_of(stored.study.plugins)
        try:
            return _write_results(stored, gathered, place, {**of_study, **(own or {})})
        except AnalysisError as error:
            if not of_study:
                raise
            problem = f"its own analyses are left out: {error.source}: {error.problem}"
            lost = {"lost": lambda _: [Card("Analyses of its own", warnings=[problem])]}
            results = _write_results(stored, gathered, place, {**(own or {}), **lost})
            say(
                f"{problem}; correct your own file, then run the study's with --resume, or look: "
                f"{own_command('analyse', stored.study.name, '--analysis', 'FILE')}",
                whole=True,
            )
            return results
    except OSError as error:
        raise not_written(
            error, place.path, f"write elsewhere, with `{own_command('analyse', '--into')}`"
        ) from None


def _write_results(
    stored: StoredStudy,
    gathered: GatheredTables,
    place: StudyFolder,
    own: Mapping[str, AnalysisFunction] | None,
) -> Results:
    study, folder = stored.study, stored.folder
    members, curves = gathered.of_kind["members"], gathered.of_kind["curves"]
    recorded = {kind: gathered.of_kind[kind] for kind in KINDS}
    reused = reused_in(members)
    question = question_of(study, members, stored.looks)
    analysis = analyse(members, curves, question, recorded, own)
    gathered.write(place.tables)  # nothing is written if an analysis fails
    tables = {name: table for card in analysis.cards for name, table in card.files.items()}
    for name, table in tables.items():
        write_atomically(place.tables / name, table.to_csv(index=False))
    if not members.empty:
        content = summary(stored, analysis, members)
        write_atomically(place.summary, json.dumps(content, indent=2, default=str) + "\n")
    drawn, pages = draw_figures(analysis, place.figures)
    origins = origins_in_words(members, folder)
    written = tuple(place.tables / name for name in tables)
    counts = counts_of(members)
    results = Results(analysis, tuple(drawn), written, reused, origins, counts=counts)
    if not members.empty:
        lines = trial_curves(study, trial_table(study, members), curves)
        results = replace(results, for_page=pages, trial_curves=lines)
        _write_report(stored, results, members, place)
    _remove_older(place, [*drawn, *written])
    return results


def write_report(stored: StoredStudy, results: Results) -> None:
    """Write the report of a study again, with the runs that MLflow has of its trials by now.

    Args:
        stored: the study.
        results: its results, which are written.
    """
    members = stored.folder.parts.gather("members")
    if not members.empty:
        _write_report(stored, results, members, stored.folder)


def _write_report(
    stored: StoredStudy, results: Results, members: pd.DataFrame, place: StudyFolder
) -> None:
    of_page = (results.for_page, results.trial_curves)
    report = report_of(stored, results.analysis, members, results.figures, *of_page)
    write_atomically(place.report, render(report))


def _remove_older(place: StudyFolder, written: Iterable[Path]) -> None:
    """Remove the figures and tables that were written here before and are no longer: of an analysis
    that was taken out, say. What the suite has not written is left alone."""
    names = [f"{path.parent.name}/{path.name}" for path in written]
    folders = {folder.name: folder for folder in (place.figures, place.tables)}
    try:
        before = place.written.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        before = []
    for name in set(before) - set(names):
        folder, _, file = name.partition("/")
        if folder in folders and file and Path(file).name == file:
            (folders[folder] / file).unlink(missing_ok=True)
    write_atomically(place.written, "".join(f"{name}\n" for name in names))


def summary(stored: StoredStudy, analysis: Analysis, members: pd.DataFrame) -> dict[str, Any]:
    """The results of a study as plain data: the answer, its numbers, where they come from."""
    study, counts = stored.study, counts_of(members)
    verdicts = [
        {
            "setting": verdict.setting,
            **(verdict.test.pair._asdict() if verdict.pairs > 1 else {}),
            "points": verdict.points,
            "p_adjusted": verdict.p_adjusted,
            "test": _by_name(verdict.test),
            "validation": _by_name(verdict.validation),
            "warnings": verdict.warnings,
        }
        for verdict in analysis.verdicts
    ]
    content: dict[str, Any] = _strict(
        {
            "study": study.name,
            "study_hash": study.hash,
            "findings": analysis.findings(),
            "warnings": analysis.warnings(),
            "trials": _trials(study, analysis),
            "networks": {
                "trained": counts.networks,
                "in_all": stored.networks,
                "searched": counts.searched,
                "finals": counts.finals,
                "fresh": counts.fresh,
            },
            "reused": reused_in(members),
            "confirmation": analysis.look,
            "look": next((list(look) for look in looks_at(stored)[-1:]), None),
            "verdicts": verdicts,
            "regimes": {
                name: json.loads(regimes.table().to_json(orient="records"))
                for name, regimes in analysis.regimes.items()
            },
            "provenance": stored.state.get("provenance", {}),
            "origins": origins_in(members, stored.folder),
        }
    )
    return content


def _by_name(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data, with its two arms under their names."""
    plain = asdict(verdict)
    del plain["pair"]
    roles = dict(zip(("arm", "reference"), verdict.pair, strict=True))
    return {roles.get(name, name): value for name, value in plain.items()}


def _trials(study: Study, analysis: Analysis) -> dict[str, dict[str, int]]:
    """The number of trials of each arm; the number stopped early only if the study stops trials."""
    by_arm = {arm: {"tried": t, "diverged": d} for arm, (t, d) in analysis.trials.items()}
    if study.early_stopping is not None:
        for arm, counts in by_arm.items():
            counts["stopped"] = analysis.stopped[arm]
    return by_arm


def _strict(value: Any) -> Any:
    """Replace NaN and infinities by null, because strict JSON cannot express them."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
