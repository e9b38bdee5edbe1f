"""One network, trained and watched: `dynloss train`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console

from dynloss_core.config import ConfigError, build, to_dict
from dynloss_core.training import Evaluation, Member, Problem, Setup, Trace, choose_engine
from studies.blocks.tables import IDENTITY, trace_rows
from studies.definition.data_sets import provide
from studies.messages import duration
from studies.storage.sealed_files import write_parquet

__all__ = ["train_one"]

_LINES = 20


def train_one(
    problem: Mapping[str, object],
    member: Mapping[str, object],
    console: Console,
    trace: Path | None = None,
    *,
    data_dir: Path | None = None,
    download: bool = False,
) -> Evaluation:
    """Train one member, print about twenty lines of progress, and return its last evaluation.

    Args:
        problem: fields of a `Problem`.
        member: fields of a `Member`.
        console: where to print.
        trace: Parquet file to write, with one row per step.
        data_dir: folder of image data to search first.
        download: whether to download the data set if it is missing.

    Raises:
        ConfigError: for a value that is refused.
    """
    if trace is not None:
        _check_writable(trace)
    built = build(Problem, problem, source="dynloss train")
    engine_class = choose_engine(built)
    one = build(Member, member, source="dynloss train")
    provide(built.data, data_dir, download=download)
    engine = engine_class(Setup.build(built, [one]), traced=[] if trace is None else [0])
    console.print(
        f"{built.data.name}, {_described(built)}, {built.steps:,} steps, engine {engine.name}"
    )
    header = f"{'step':>8}  {'train loss':>10}  {'train acc':>9}  {'val acc':>8}  {'F':>10}"
    console.print(header, style="bold")
    started, every = time.perf_counter(), max(1, built.steps // built.evaluate_every // _LINES)
    traces: list[Trace] = []
    for index, evaluation in enumerate(engine.evaluations()):
        last = evaluation
        if evaluation.trace is not None:
            traces.append(evaluation.trace)
        if index % every == 0 or evaluation.step == built.steps:
            console.print(
                f"{evaluation.step:>8}  {float(evaluation.train_loss):>10.4g}  "
                f"{float(evaluation.train_accuracy):>9.3f}  "
                f"{float(evaluation.validation_accuracy):>8.3f}  "
                f"{float(evaluation.weighted_loss):>10.4g}"
            )
    if int(last.diverged_step) >= 0:
        console.print(f"diverged, detected at step {int(last.diverged_step)}", style="red")
    console.print(f"{duration(time.perf_counter() - started)}")
    if trace is not None:
        identity = pd.DataFrame([dict.fromkeys(IDENTITY, 0)])
        rows = trace_rows(identity, Trace.joined(traces)).drop(columns=IDENTITY)
        write_parquet(rows, trace)
        console.print(f"{len(rows):,} steps in {trace}: {', '.join(rows.columns)}")
    return last


def _check_writable(path: Path) -> None:
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError("--trace", f"{path.parent} is not a folder to write to", "make it first")


def _described(problem: Problem) -> str:
    name, *sizes = to_dict(problem.model).items()
    counts = ", ".join(f"{key} {value}" for key, value in sizes if isinstance(value, int))
    return f"{name[1]} ({counts})"
