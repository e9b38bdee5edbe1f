"""The analysis at scale: a table of 100,000 trials analysed, drawn and rendered.

The table is synthetic: 100,000 trials of an adaptive-looking search over period, amplitude and
learning rate, in both arms, with several seeds each, some diverged. It is measured in a process of
its own, so that its memory is known.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from dynloss_core import keys
from studies.analysis.analyses import analyse
from studies.analysis.question import Question
from studies.blocks.provenance import provenance
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.report.page.html import render
from studies.report.study_question import question_of
from studies.report.study_report import report_of
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder


@dataclass(frozen=True)
class Measurement:
    """Seconds of each stage, and the peak memory of the process."""

    trials: int
    rows: int
    analyse_seconds: float
    draw_seconds: float
    report_seconds: float
    report_megabytes: float
    peak_megabytes: float
    before_megabytes: float


def synthetic(study: Study, trials: int, seeds: int) -> pd.DataFrame:
    """A members table of `trials` trials, half in each arm."""
    draws = np.random.default_rng(0)
    frames = []
    for arm in (keys.DYNAMICAL, keys.STATIC):
        count = trials // 2
        points = pd.DataFrame(
            {
                keys.TRIAL: np.arange(count),
                keys.PERIOD: np.exp(draws.uniform(np.log(200), np.log(10_000), count)).round(),
                keys.AMPLITUDE: np.exp(draws.uniform(np.log(2), np.log(150), count)),
                keys.LEARNING_RATE: np.exp(draws.uniform(np.log(0.1), np.log(10), count)),
            }
        )
        if arm == keys.STATIC:
            points[keys.PERIOD], points[keys.AMPLITUDE] = np.nan, 1.0
        rows = points.loc[points.index.repeat(seeds)].reset_index(drop=True)
        best = -((np.log(rows[keys.LEARNING_RATE] / 1.5)) ** 2) / 20
        gain = 0.1 * (arm == keys.DYNAMICAL) * np.log(rows[keys.AMPLITUDE]) / 5
        rows[keys.SEED] = np.tile(np.arange(seeds), count)
        rows[keys.VALIDATION_ACCURACY] = 0.7 + best + gain + draws.normal(0, 0.03, len(rows))
        rows[keys.DIVERGED] = draws.random(len(rows)) < 0.01
        rows.loc[rows[keys.DIVERGED], keys.VALIDATION_ACCURACY] = np.nan
        rows[keys.ARM], rows[keys.PHASE], rows[keys.STUDY] = arm, keys.SEARCH, study.name
        rows[keys.STEPS] = study.budget.total
        rows[keys.SECONDS] = 1.0
        rows[keys.CONFIG_HASH] = [f"{index:012x}" for index in range(len(rows))]
        rows[keys.TRAIN_ACCURACY] = rows[keys.VALIDATION_ACCURACY]
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def measure(trials: int, seeds: int) -> Measurement:
    study = load_study("quickstart")
    members = synthetic(study, trials, seeds)
    before = megabytes()
    started = time.perf_counter()
    question: Question = question_of(study, members)
    analysis = analyse(members, pd.DataFrame(), question)
    analysed = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        figures = []
        for drawing in (drawing for card in analysis.cards for drawing in card.drawings):
            assert drawing.draw is not None, "no run was recorded"
            figures.append(Path(place) / f"{drawing.name}.png")
            drawing.draw().savefig(figures[-1])
        drawn = time.perf_counter()
        stored = StoredStudy(StudyFolder(Path(place)), study, "", {})
        page = render(report_of(stored, analysis, members, figures))
    ended = time.perf_counter()
    return Measurement(
        trials=trials,
        rows=len(members),
        analyse_seconds=analysed - started,
        draw_seconds=drawn - analysed,
        report_seconds=ended - drawn,
        report_megabytes=len(page.encode()) / 2**20,
        peak_megabytes=megabytes(),
        before_megabytes=before,
    )


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("analysis.json"))
    options = parser.parse_args()
    rows = []
    for trials in options.trials:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            rows.append(alone.apply(measure, (trials, options.seeds)))
    shown = Table("trials", "rows", "analyse", "draw", "report", "in all", "page", "peak", box=None)
    for row in rows:
        seconds = (row.analyse_seconds, row.draw_seconds, row.report_seconds)
        shown.add_row(
            f"{row.trials:,}", f"{row.rows:,}", *(f"{each:.1f} s" for each in seconds),
            f"{sum(seconds):.1f} s", f"{row.report_megabytes:.1f} MB",
            f"{row.peak_megabytes:,.0f} MB",
        )  # fmt: skip
    Console(width=110).print(shown)
    record = {"provenance": provenance(), "rows": [asdict(row) for row in rows]}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
