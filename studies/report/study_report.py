"""The report of a study: its analysis, arranged into the parts of a `Report`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Drawing
from studies.analysis.figures.files import PageFigure
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.analysis.study_analysis import Analysis
from studies.definition.network_counts import counted
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.messages import UI_PORT, brief, duration
from studies.report.page.document import (
    Command,
    Estimate,
    Finding,
    Glance,
    Picture,
    Report,
    Section,
    TrialTable,
)
from studies.report.trial_table import counts_of, reused_in, trial_axes, trial_table
from studies.storage.origins import origins_in_words
from studies.storage.stored_study import StoredStudy

__all__ = ["report_of"]

LOCAL_ADDRESS = f"http://127.0.0.1:{UI_PORT}"
"""Of `dynloss ui`, by default."""

_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")


def report_of(
    stored: StoredStudy,
    analysis: Analysis,
    members: pd.DataFrame,
    figures: Sequence[Path],
    for_page: Mapping[str, PageFigure] = MappingProxyType({}),
    curves: Mapping[str, Any] | None = None,
) -> Report:
    """The report of a study, finished or not.

    Args:
        stored: the study, with its provenance and its run in MLflow.
        analysis: the analysis of the study.
        members: the members table.
        figures: the files drawn; PNG files are embedded, and so is a GIF file with the same name.
        for_page: figures drawn for a page, by name, which stand in place of those files.
        curves: the curves of its trials (see `trial_curves`).
    """
    pictures = {path.stem: path for path in figures if path.suffix == ".png"}
    moving = {path.stem: path for path in figures if path.suffix == ".gif"}
    study, folder = stored.study, stored.folder
    provenance = {str(k): str(v) for k, v in dict(stored.state.get("provenance", {})).items()}
    provenance["seeds"] = _seeds(members)
    provenance["origin"] = origins_in_words(members, folder)
    facts = {
        "Mode": study.mode,
        **_counts(stored, members),
        "Objective": study.objective.replace("_", " "),
    }
    if keys.SECONDS in members:
        facts["Time spent"] = f"{duration(float(members[keys.SECONDS].sum()))} of training"
    if study.equivalence_margin is not None:
        facts["Equivalence margin"] = f"±{study.equivalence_margin:g}, set in the study file"
    return Report(
        title=study.name,
        question=study.description,
        facts=facts,
        findings=list(_findings(analysis)),
        warnings=analysis.other_warnings(),
        sections=list(_sections(analysis, pictures, moving, for_page)),
        trials=_trials(stored, members, curves),
        study_file=folder.definition.read_text(encoding="utf-8") if folder.exists() else "",
        commands=_commands(study),
        provenance=provenance,
    )


def _counts(stored: StoredStudy, members: pd.DataFrame) -> dict[str, str]:
    """Trials and networks, and how many networks are missing."""
    counts = counts_of(members)
    facts = {"Trials": f"{counts.trials:,}"} if stored.study.mode != "confirm" else {}
    facts["Networks"] = counts.of_networks()
    missing = stored.networks - counts.networks
    if missing > 0:
        facts["Not trained"] = f"{missing:,} of {stored.networks:,} networks"
    if reused := reused_in(members):
        facts["Reused"] = ", ".join(f"{counted(n, 'network')} of {o}" for o, n in reused.items())
    return {label: _THOUSANDS.sub("\u202f", text) for label, text in facts.items()}


def _findings(analysis: Analysis) -> Iterable[Finding]:
    """Ladders first, which summarise many verdicts; then each verdict, then everything else."""
    ladders = [ladder.sentence() for ladder in analysis.ladders]
    yield from (Finding(sentence) for sentence in ladders)
    for verdict in analysis.verdicts:
        yield _finding(verdict)
    for sentence in analysis.findings()[len(analysis.verdicts) :]:
        if sentence not in ladders:
            yield Finding(sentence)


def _finding(setting_verdict: SettingVerdict) -> Finding:
    verdict = setting_verdict.test
    up = keys.higher_is_better(verdict.metric)
    better, worse = (f"{arm} better" for arm in verdict.pair)
    numbers = {
        "Pairs": verdict.sample,
        "Wilcoxon p": f"{verdict.p_wilcoxon:.2g}",
        "Median difference": f"{verdict.median:+.4f}",
    }
    if verdict.effect_size is not None:
        numbers["Effect size d_z"] = f"{verdict.effect_size:.2f}"
    if verdict.p_equivalence is not None:
        numbers["Equivalence p"] = f"{verdict.p_equivalence:.2g}"
    for arm, point in setting_verdict.points.items():
        settings = ", ".join(f"{k.replace('_', ' ')} {brief(v)}" for k, v in point.items())
        of_first = "" if verdict.luck is None else " of search 1"
        numbers[f"{arm.capitalize()} winner{of_first}"] = settings
    qualifier = "of networks that train" if verdict.of_trained else ""
    if verdict.withheld is not None:
        qualifier = f"{OUTCOME_IN_WORDS[verdict.withheld]} by these pairs alone, which is withheld"
    where = f"{setting_verdict.label}: " if setting_verdict.label else ""
    return Finding(
        glance=Glance(
            compared=f"{where}{verdict.pair.arm} − {verdict.pair.reference}",
            difference=verdict.interval().replace("-", "−"),
            level=f"{verdict.level * 100:.4g}%",
            sample=f"{verdict.n} {'seeds' if verdict.luck is None else 'searches'}",
            look=setting_verdict.look,
            p=f"{setting_verdict.p_adjusted:.2g}",
            qualifier=qualifier,
        ),
        sentence=setting_verdict.sentence(),
        outcome=verdict.outcome,
        warnings=setting_verdict.warnings,
        estimate=Estimate(
            value=verdict.difference,
            low=verdict.low,
            high=verdict.high,
            margin=verdict.margin,
            negative=worse if up else better,
            positive=better if up else worse,
        ),
        numbers=numbers,
    )


def _sections(
    analysis: Analysis,
    pictures: dict[str, Path],
    moving: dict[str, Path],
    for_page: Mapping[str, PageFigure],
) -> Iterable[Section]:
    """One section per card, with those of its figures that were drawn."""

    def picture(drawing: Drawing) -> Picture:
        if (page := for_page.get(drawing.name)) is not None:
            return Picture(
                page.wide.svg,
                alt=drawing.headline,
                caption=drawing.caption,
                title=drawing.headline,
                narrow=page.narrow.svg,
                notes=page.wide.notes,
                spots=page.wide.spots,
                narrow_spots=page.narrow.spots,
            )
        return Picture(
            pictures[drawing.name].read_bytes(),
            alt=drawing.headline,
            caption=drawing.caption,
            moving=moving[drawing.name].read_bytes() if drawing.name in moving else None,
        )

    for card in analysis.cards:
        drawn = [picture(drawing) for drawing in card.drawings if drawing.name in pictures]
        if drawn or card.table is not None:
            yield Section(card.title, card.paragraphs, drawn, card.table, card.table_caption)


def _trials(
    stored: StoredStudy, members: pd.DataFrame, curves: Mapping[str, Any] | None
) -> TrialTable | None:
    if members.empty:
        return None
    study, state = stored.study, stored.state
    frame = trial_table(study, members)
    is_search = frame[keys.PHASE].map(lambda phase: Phase.parse(str(phase)).is_search)
    reruns = int((~is_search.astype(bool)).sum())  # which come first
    note = ""
    if study.mode == "confirm":
        note = "Each row is a point that was given, on fresh seeds. "
    elif reruns:
        note = f"The first {reruns} rows are reruns: points chosen in the search, on new seeds. "
    note += "Means over seeds. Metrics are static (unweighted), "
    note += "at the end of training"
    if keys.STOPPED_STEP in members:
        note += "; for a trial that was stopped early, at its stopped step (else -1)"
    runs = stored.folder.runs()
    address = _address(str(state.get("tracking_uri", "")))
    is_local = address == LOCAL_ADDRESS
    if not runs.empty:
        note += ". Runs open in MLflow while `dynloss ui` runs" if is_local else ""
        frame = frame.merge(runs, on=[keys.PHASE, keys.ARM, keys.TRIAL], how="left")
    return TrialTable(
        frame=frame,
        labels={f"{study.objective}_sd": f"{study.objective.replace('_', ' ')} sd"},
        run_column="mlflow_run" if not runs.empty else None,
        tracking_uri=address,
        moves=is_local,
        experiment_id=str(state["mlflow_experiment"]) if "mlflow_experiment" in state else None,
        note=f"{note}.",
        reruns=reruns,
        axes=trial_axes(study, frame),
        curves=curves,
    )


def _address(tracking_uri: str) -> str:
    """Where runs can be seen: the study's server, or the one that `dynloss ui` starts."""
    return tracking_uri if tracking_uri.startswith(("http://", "https://")) else LOCAL_ADDRESS


def _commands(study: Study) -> list[Command]:
    return [
        Command("dynloss run study.yaml", "run the same study again, from the file above"),
        Command(f"dynloss analyse {study.name}", "analyse and draw again, from its tables"),
        Command(f"dynloss confirm {study.name}", "rerun the winners on fresh seeds"),
        Command("dynloss ui", "browse the trials in MLflow"),
    ]


def _seeds(members: pd.DataFrame) -> str:
    if members.empty:
        return "none"
    parts = []
    for phase, rows in members.groupby(keys.PHASE, sort=False):
        seeds = rows[keys.SEED]
        parts.append(f"{phase}: {seeds.nunique()}, from {seeds.min()} to {seeds.max()}")
    return "; ".join(parts)
