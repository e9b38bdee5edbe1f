"""The report of a study: what its analysis says, put into the parts that `studies.report` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from dynloss_core import keys
from studies.analysis.gain_map import GainMap
from studies.analysis.study_analysis import Analysis, SettingVerdict
from studies.definition import Study
from studies.folder import StudyFolder
from studies.report import (
    Command,
    Estimate,
    Finding,
    Picture,
    Report,
    Section,
    TrialTable,
)

__all__ = ["report_of"]

_CAPTIONS = {
    "verdict": "Left: each seed's pair of networks, with mean and standard deviation of both arms. "
    "Right: the differences within pairs, their mean and its interval.",
    "regimes": "Accuracies of both arms and the gain of the dynamical loss over the size of the "
    "network; the dashed line is the interpolation threshold.",
    "gain_map": "Gain over period and amplitude, over the static arm at its own best learning rate "
    "and, where both arms share them, at the same one. Hatched cells are not significant.",
    "learning_rate_map": "Gain over learning rate and amplitude, over both baselines.",
    "learning_curves": "The winners of both arms on fresh seeds: mean and 95% interval.",
    "trajectory": "One run, step by step: class weights, F, its change, accuracy, and the largest "
    "eigenvalues of the Hessian of F and of the tangent kernel. Instabilities are shaded.",
    "threshold": "Where instabilities begin: the largest Hessian eigenvalue before them, over "
    "learning rate and size; and how sharp static runs end.",
    "minima": "How sharp the networks end: largest eigenvalue and trace of the Hessian of the "
    "static loss in both arms, and what that has to do with validation accuracy.",
    "valleys": "F on the line through the parameters along the sharpest direction of each moment, "
    "dark where it is low, and the largest Hessian eigenvalue below: where the dark band opens the "
    "valley deepens and widens, where it closes the valley rises and narrows. Up and down may swap "
    "where the direction turns, as it does when another class has its turn.",
    "valley_moving": "The same line at one moment after another: F, the parabola of its curvature, "
    "and the network as a dot. Below it are the weights of the classes and the largest eigenvalue, "
    "with the bound 2 / learning rate dashed.",
    "isolation": "The best achievable objective at each value of a parameter, the others tuned.",
    "convergence": "The best objective so far against the number of trials, in both arms.",
}
_MOVE = {"valley_moving"}
_TITLES = {
    "verdict": "Fresh seeds",
    "regimes": "From under- to overparametrized",
    "gain_map": "Where it gains: period and amplitude",
    "learning_rate_map": "Where it gains: learning rate and amplitude",
    "learning_curves": "Learning curves",
    "trajectory": "Instabilities",
    "threshold": "The threshold of the instabilities",
    "minima": "Sharpness of the minima",
    "valley": "The valley, moving",
    "health": "The health of the search",
}


def report_of(
    study: Study,
    folder: StudyFolder,
    analysis: Analysis,
    members: pd.DataFrame,
    figures: Sequence[Path],
) -> Report:
    """The report of a study, finished or not.

    Args:
        study: the definition.
        folder: its folder: study file, provenance, MLflow's run ids.
        analysis: what was found.
        members: the members table.
        figures: files drawn; the PNG files among them are embedded, and the GIF files behind those
            of their names.
    """
    pictures = {path.stem: path for path in figures if path.suffix == ".png"}
    state = folder.state()
    provenance = {str(k): str(v) for k, v in dict(state.get("provenance", {})).items()}
    provenance["seeds"] = _seeds(members)
    tried = sum(count for count, _ in analysis.trials.values())
    facts = {
        "Mode": study.mode,
        "Trials": f"{tried:,}",
        "Networks": f"{len(members):,}",
        "Objective": study.objective.replace("_", " "),
    }
    if study.equivalence_margin is not None:
        facts["Equivalence margin"] = f"±{study.equivalence_margin:g}, set in the study file"
    return Report(
        title=study.name,
        question=study.description,
        facts=facts,
        findings=list(_findings(analysis)),
        warnings=analysis.warnings(),
        sections=list(_sections(analysis, pictures)),
        trials=_trials(study, folder, members),
        study_file=folder.definition.read_text(encoding="utf-8") if folder.exists() else "",
        commands=_commands(study),
        provenance=provenance,
    )


def _findings(analysis: Analysis) -> Iterable[Finding]:
    for each in analysis.verdicts:
        yield _finding(each)
    yield from (Finding(sentence) for sentence in analysis.statements())


def _finding(each: SettingVerdict) -> Finding:
    verdict = each.test
    up = keys.higher_is_better(verdict.metric)
    worse, better = "static better", "dynamical better"
    where = f"At {each.label}: " if each.label else ""
    numbers = {
        "Pairs": f"{verdict.n} fresh seeds",
        "Wilcoxon p": f"{verdict.p_wilcoxon:.2g}",
        "Median difference": f"{verdict.median:+.4f}",
    }
    if verdict.effect_size is not None:
        numbers["Effect size d_z"] = f"{verdict.effect_size:.2f}"
    if verdict.p_equivalence is not None:
        numbers["Equivalence p"] = f"{verdict.p_equivalence:.2g}"
    for arm, point in each.points.items():
        settings = ", ".join(f"{k.replace('_', ' ')} {_brief(v)}" for k, v in point.items())
        numbers[f"{arm.capitalize()} winner"] = settings
    return Finding(
        sentence=f"{where}{verdict.sentence()}.",
        outcome=verdict.outcome,
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


def _sections(analysis: Analysis, pictures: dict[str, Path]) -> Iterable[Section]:
    verdicts = [name for name in pictures if name.startswith("verdict")]
    if verdicts:
        yield Section(_TITLES["verdict"], pictures=[_picture(pictures, n) for n in verdicts])
    for parameter, regime in analysis.regimes.items():
        name = f"regimes_{parameter.rpartition('.')[2]}"
        yield Section(
            _TITLES["regimes"],
            paragraphs=regime.sentences()[:1],
            pictures=[_picture(pictures, name)] if name in pictures else [],
            table=regime.table(),
            table_caption="Both arms at each size, in both metrics.",
        )
    for name, gains in analysis.maps.items():
        if name in pictures:
            text = _how_it_was_made(gains, adaptive=analysis.adaptive)
            yield Section(_TITLES[name], [text], [_picture(pictures, name)])
    if "learning_curves" in pictures:
        yield Section(_TITLES["learning_curves"], pictures=[_picture(pictures, "learning_curves")])
    tables = {"threshold": analysis.threshold, "minima": analysis.minima}
    for name, each in tables.items():
        if each is not None and name in pictures:
            yield Section(
                _TITLES[name],
                pictures=[_picture(pictures, name)],
                table=each.table(),
                table_caption="A row a size" + (" and measure." if name == "minima" else "."),
            )
    recorded = [name for name in pictures if name.startswith("trajectory")]
    if recorded:
        yield Section(_TITLES["trajectory"], pictures=[_picture(pictures, n) for n in recorded])
    valleys = [name for name in ("valleys", "valley_moving") if name in pictures]
    if valleys:
        yield Section(_TITLES["valley"], pictures=[_picture(pictures, n) for n in valleys])
    health = [_picture(pictures, n) for n in ("isolation", "convergence") if n in pictures]
    if health:
        yield Section(_TITLES["health"], pictures=health)


def _how_it_was_made(gains: GainMap, *, adaptive: bool) -> str:
    text = (
        f"{gains.n} seeds a trial, paired. The static trial at its own best learning rate was "
        "chosen on the same seeds, which leans against a gain. False discoveries over the cells "
        "are controlled at 5% (Benjamini-Hochberg)."
    )
    if adaptive:
        text += " The trials were placed by an adaptive search: read the map as exploratory."
    return text


def _picture(pictures: dict[str, Path], name: str) -> Picture:
    kind = next(kind for kind in _CAPTIONS if name.startswith(kind))
    moving = pictures[name].with_suffix(".gif")
    return Picture(
        pictures[name].read_bytes(),
        alt=name.replace("_", " "),
        caption=_CAPTIONS[kind],
        moving=moving.read_bytes() if kind in _MOVE and moving.exists() else None,
    )


def _trials(study: Study, folder: StudyFolder, members: pd.DataFrame) -> TrialTable | None:
    if members.empty:
        return None
    identity = [keys.PHASE, keys.ARM, keys.TRIAL]
    points = [*keys.MEMBER_PARAMETERS, *(name for name in members.columns if "." in name)]
    points = [name for name in points if name in members.columns]
    shown = (study.objective, keys.TRAIN_ACCURACY, study.objective.replace("validation", "test"))
    measured = {name for name in shown if name in members and members[name].notna().any()}
    metrics = [name for name in shown if name in {study.objective, *measured}]
    grouped = members.groupby(identity, sort=False)
    frame = grouped[points].first()
    for metric in metrics:
        frame[metric] = grouped[metric].mean()
    frame[f"{study.objective}_sd"] = grouped[study.objective].std(ddof=1)
    frame["seeds"] = grouped[keys.SEED].nunique()
    frame["diverged_members"] = grouped[keys.DIVERGED].sum().astype(int)
    note = "Means over seeds. Metrics are static (unweighted), at the end of training"
    if keys.STOPPED_STEP in members:
        frame[keys.STOPPED_STEP] = grouped[keys.STOPPED_STEP].max()
        note += "; of a trial that was stopped early, at its stopped step (else -1)"
    up = keys.higher_is_better(study.objective)
    frame = frame.reset_index().sort_values(
        [keys.PHASE, study.objective], ascending=[True, not up], kind="stable"
    )
    runs = folder.runs()
    if not runs.empty:
        frame = frame.merge(runs, on=identity, how="left")
    state = folder.state()
    return TrialTable(
        frame=frame.reset_index(drop=True),
        labels={f"{study.objective}_sd": f"{study.objective.replace('_', ' ')} sd"},
        run_column="mlflow_run" if not runs.empty else None,
        tracking_uri=str(state.get("tracking_uri", "")) or None,
        experiment_id=str(state["mlflow_experiment"]) if "mlflow_experiment" in state else None,
        note=f"{note}.",
    )


def _commands(study: Study) -> list[Command]:
    return [
        Command("dynloss run study.yaml", "the same study again, from the file above"),
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


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
