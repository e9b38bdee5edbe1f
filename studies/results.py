"""From a study's tables to its answer: verdict, figures and files, on disk and in MLflow."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from dynloss_core import keys
from dynloss_core.schedules import oscillation_stop
from studies.analysis.figures import draw_gain_map, draw_learning_curves, draw_verdict
from studies.analysis.gain_map import gain_map
from studies.analysis.learning_curves import learning_curves
from studies.analysis.pairing import paired_by_seed
from studies.analysis.verdict import Verdict, judge
from studies.definition import Study
from studies.folder import StudyFolder

__all__ = ["Results", "write_results"]


@dataclass(frozen=True)
class Results:
    """What a study's tables say.

    Args:
        verdict: on the test metric of fresh seeds; None before they are trained, or with one arm.
        validation: the same comparison on the validation metric.
        winners: the members-table row of each arm's confirmed point.
        figures: files drawn.
        trials: searched trials of each arm, and how many of them diverged.
    """

    verdict: Verdict | None
    validation: Verdict | None
    winners: dict[str, dict[str, object]]
    figures: tuple[Path, ...]
    trials: dict[str, tuple[int, int]]

    def without_winner(self, study: Study) -> list[str]:
        """Arms that have no trial that could represent them, where one was to be confirmed."""
        return [arm for arm in study.arms if study.confirms() and arm not in self.winners]

    def metrics(self) -> dict[str, float]:
        """The verdict as metrics of the parent run."""
        if self.verdict is None:
            return {}
        return {
            "verdict_difference": self.verdict.difference,
            "verdict_low": self.verdict.low,
            "verdict_high": self.verdict.high,
            "verdict_n": float(self.verdict.n),
            "verdict_p_wilcoxon": self.verdict.p_wilcoxon,
            "verdict_dynamical_mean": self.verdict.dynamical.mean,
            "verdict_static_mean": self.verdict.static.mean,
        }


def write_results(study: Study, folder: StudyFolder) -> Results:
    """Gather the tables of a study, judge them, draw the figures and write it all.

    Works on an unfinished study too, with what is there.
    """
    members, curves = folder.write_tables()
    verdict = validation = None
    winners: dict[str, dict[str, object]] = {}
    figures: dict[str, Figure] = {}
    trials: dict[str, tuple[int, int]] = {}
    if not members.empty:
        search = members[members[keys.PHASE] == keys.SEARCH]
        trials = {arm: _count(search, arm) for arm in study.arms}
        for name, x in (("gain_map", keys.PERIOD), ("learning_rate_map", keys.LEARNING_RATE)):
            result = gain_map(search, study.objective, x)
            if result is not None:
                figures[name] = draw_gain_map(result)
        confirm = members[members[keys.PHASE] == keys.CONFIRM]
        winners = {arm: _point(study, confirm, arm) for arm in confirm[keys.ARM].unique()}
        metric = study.objective.replace("validation", "test")
        both = set(winners) == {keys.DYNAMICAL, keys.STATIC}
        if both and len(paired_by_seed(confirm, metric)) >= 2:
            verdict = judge(confirm, metric, margin=study.equivalence_margin)
            validation = judge(confirm, study.objective, margin=study.equivalence_margin)
            figures["verdict"] = draw_verdict(paired_by_seed(confirm, metric), verdict)
        if winners:
            rows = curves[curves[keys.PHASE] == keys.CONFIRM]
            shown = (keys.VALIDATION_ACCURACY, keys.TRAIN_ACCURACY, keys.TRAIN_LOSS)
            panels = [learning_curves(rows, metric) for metric in shown]
            figures["learning_curves"] = draw_learning_curves(
                panels, tail_start=_tail_start(study, confirm)
            )
    if verdict is not None and validation is not None:
        record = {
            "study": study.name,
            "study_hash": study.hash,
            "verdict": asdict(verdict),
            "validation": asdict(validation),
            "winners": winners,
            "provenance": folder.state().get("provenance", {}),
        }
        folder.verdict.write_text(json.dumps(record, indent=2, default=str) + "\n")
    drawn = tuple(path for name, fig in figures.items() for path in _save(fig, folder, name))
    return Results(verdict, validation, winners, drawn, trials)


def _count(search: pd.DataFrame, arm: str) -> tuple[int, int]:
    by_trial = search[search[keys.ARM] == arm].groupby(keys.TRIAL)[keys.DIVERGED].any()
    return len(by_trial), int(by_trial.sum())


def _point(study: Study, confirm: pd.DataFrame, arm: str) -> dict[str, object]:
    """The parameters that an arm was confirmed with, a period in steps; as plain values."""
    row = confirm[confirm[keys.ARM] == arm].iloc[0]
    names = [name for name in study.arm_space(arm).parameters if name in confirm.columns]
    plain = {name: row[name].item() if hasattr(row[name], "item") else row[name] for name in names}
    return {name: None if pd.isna(value) else value for name, value in plain.items()}


def _tail_start(study: Study, confirm: pd.DataFrame) -> int | None:
    """The step from which the dynamical winner trains statically."""
    rows = confirm[confirm[keys.ARM] == keys.DYNAMICAL]
    if rows.empty:
        return None
    steps, period = int(rows[keys.STEPS].iloc[0]), int(rows[keys.PERIOD].iloc[0])
    tail = round(study.budget.static_tail / study.budget.total * steps)
    return oscillation_stop(steps, tail, period)


def _save(figure: Figure, folder: StudyFolder, name: str) -> list[Path]:
    folder.figures.mkdir(parents=True, exist_ok=True)
    paths = [folder.figures / f"{name}.{ending}" for ending in ("png", "svg")]
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata)
    return paths
