"""One network, trained and watched: `dynloss train`, by itself or as a study's winner."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console

from dynloss_core import keys
from dynloss_core.config import ConfigError, reason_of, to_dict
from dynloss_core.training import (
    Engine,
    EngineName,
    Evaluation,
    Member,
    Problem,
    Setup,
    Trace,
    choose_engine,
)
from studies.blocks.tables import IDENTITY, trace_rows
from studies.messages import duration, paragraph
from studies.storage.recorded_winner import METRICS, RecordedWinner
from studies.storage.sealed_files import write_parquet

__all__ = ["retrain", "train_alone", "train_one"]

_LINES = 20


def retrain(
    winner: RecordedWinner,
    problem: Problem,
    member: Member,
    console: Console,
    trace: Path | None = None,
) -> dict[str, float]:
    """Train a study's winner again as a single run, and print what it ends with beside what the
    study recorded.

    Args:
        winner: the winner; its study says which engine trains, and on what.
        problem: its problem, or one that was changed.
        member: its member, or one that was changed.
        console: where to print.
        trace: Parquet file to write, with one row per step.

    Returns:
        Losses and accuracies in [0, 1] at the end, by metric.

    Raises:
        ConfigError: for a value that is refused.
    """
    study = winner.study
    device = study.device if torch.cuda.is_available() else "cpu"
    last, engine = train_one(
        problem, member, console, trace, engine_name=study.engine, device=device
    )
    held_out = engine.held_out()
    measured = {
        name: float(getattr(held_out if name in keys.TEST_METRICS else last, name))
        for name in METRICS
    }
    recorded = winner.recorded(problem, member)
    console.print(f"{'at the end':<20}  {'this run':>10}  {'recorded':>10}", style="bold")
    for name, value in measured.items():
        known = f"{recorded[name]:.6g}" if name in recorded else "-"
        console.print(f"{name.replace('_', ' '):<20}  {value:>10.6g}  {known:>10}")
    if any(not math.isclose(measured[name], recorded[name], rel_tol=1e-4) for name in recorded):
        console.print(
            "they differ: sums round in another order where networks train together, or by another "
            "engine or version, and long runs magnify that"
        )
    return measured


def train_alone(
    problem: Problem, member: Member, console: Console, trace: Path | None = None
) -> float:
    """Train one member as `train_one` does, print its test accuracy, and return that.

    Args:
        problem: what is trained, how, and for how long.
        member: the network.
        console: where to print.
        trace: Parquet file to write, with one row per step.

    Raises:
        ConfigError: for a value that is refused.
    """
    _, engine = train_one(problem, member, console, trace)
    accuracy = float(engine.held_out().test_accuracy)
    console.print(f"test accuracy {accuracy:.3f}", style="bold")
    return accuracy


def train_one(
    problem: Problem,
    member: Member,
    console: Console,
    trace: Path | None = None,
    *,
    engine_name: EngineName = "auto",
    device: str = "cpu",
) -> tuple[Evaluation, Engine]:
    """Train one member, print about twenty lines of progress, and return its last evaluation and
    the engine that trained it. The data set is looked for where `ensure_data` said.

    Args:
        problem: what is trained, how, and for how long.
        member: the network.
        console: where to print.
        trace: Parquet file to write, with one row per step.
        engine_name: the engine; `auto` takes the fastest that can.
        device: where to train.

    Raises:
        ConfigError: for a value that is refused.
    """
    if trace is not None:
        _check_writable(trace)
    engine_class = choose_engine(problem, engine_name, device)
    traced = [] if trace is None else [0]
    engine = engine_class(Setup.build(problem, [member]), device, traced=traced)
    what = f"{problem.data.name}, {_described(problem)}"
    paragraph(f"{what}, {problem.steps:,} steps, engine {engine.name}", to=console)
    for line in _said_of(problem, member):
        paragraph(line, to=console)
    header = f"{'step':>8}  {'train loss':>10}  {'train acc':>9}  {'val acc':>8}  {'F':>10}"
    console.print(header, style="bold")
    started, every = time.perf_counter(), max(1, problem.steps // problem.evaluate_every // _LINES)
    traces: list[Trace] = []
    for index, evaluation in enumerate(engine.evaluations()):
        last = evaluation
        if evaluation.trace is not None:
            traces.append(evaluation.trace)
        if index % every == 0 or evaluation.step == problem.steps:
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
    return last, engine


def _check_writable(path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        problem = f"{path.parent} is not a folder to write to: {reason_of(error)}"
        raise ConfigError("--trace", problem, "name a file in one that is") from None


def _said_of(problem: Problem, member: Member) -> Iterator[str]:
    """The point, and what the column F is."""
    rate = f"learning rate {member.learning_rate:g}"
    rate += f", momentum {member.momentum:g}" if member.momentum else ""
    loss = problem.loss.replace("_", " ")
    if member.amplitude == 1:
        yield f"A = 1, the static loss; {rate}"
        yield f"F is what is minimised: {loss}, every {_weighted(problem)} alike"
        return
    yield f"T = {member.period:,} steps, A = {member.amplitude:g}, {rate}"
    until = f" until step {problem.steps - problem.static_tail:,}" if problem.static_tail else ""
    yield (
        f"F is what is minimised: {loss}, with weights of the {_weighted(problem, several=True)} "
        f"that oscillate{until}"
    )


def _weighted(problem: Problem, *, several: bool = False) -> str:
    """What the weights belong to."""
    if problem.oscillation.groups == "classes":
        return "classes" if several else "class"
    return "samples" if several else "sample"


def _described(problem: Problem) -> str:
    name, *sizes = to_dict(problem.model).items()
    counts = ", ".join(f"{key} {value}" for key, value in sizes if isinstance(value, int))
    return f"{name[1]} ({counts})"
