"""Instabilities of recorded runs: when they occur, how sharp the valley is then, what they change.

The claims to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): instabilities start when the
largest Hessian eigenvalue of the dynamical loss crosses 2 / learning rate, at the ends of periods,
where the class weights return to 1; they double their period; the tangent kernel's largest
eigenvalue falls across each; and the final valley is wider than with the static loss. They are
found while a network trains (see `studies.blocks.recorder`); this module reads their tables.

The tangent kernel's eigenvalue falls in every period anyway. So each instability is compared with
placebos: windows of the same length at the same place in other periods of the run, without an
instability.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings, recordings_of
from studies.analysis.study_tables import Tables

__all__ = ["cards", "kernel_falls", "sentences", "trajectory_cards"]


def cards(tables: Tables) -> Iterator[Card]:
    """Every instability of every recorded run, and what they show about the paper's claims."""
    recorded = tables.cached(recordings_of)
    if recorded is not None:
        yield Card(
            "Recorded runs",
            files={"instabilities.csv": recorded.table()},
            sentences=sentences(recorded),
            subject="landscape",
        )


def trajectory_cards(tables: Tables, draw: DrawFunction[RecordedRun]) -> Iterator[Card]:
    """The first traced run of each arm."""
    recorded = tables.cached(recordings_of)
    traced = [] if recorded is None else [run for run in recorded.runs if not run.trace.empty]
    first = {run.arm: run for run in reversed(traced)}
    drawings = [
        Drawing(f"trajectory_{arm}", run.headline(), run.caption(), partial(draw, run))
        for arm, run in sorted(first.items())
    ]
    if drawings:
        yield Card("Instabilities", drawings)


def sentences(recorded: Recordings) -> list[str]:
    """What the runs show about the paper's claims, with the spread over seeds, and over the winners
    if there are several searches; nothing for runs at several points of a map (see `threshold`)."""
    if not recorded.one_point and not recorded.winners:
        return []
    lines = []
    for arm, runs in recorded.by_arm().items():
        if recorded.watched:
            lines.append(_instabilities(arm, runs))
        if runs[0].period is not None:
            lines += [line for line in (_sharpness(arm, runs), _kernel(arm, runs)) if line]
    ends = {arm: _ends(runs) for arm, runs in recorded.by_arm().items()}
    known = {arm: end for arm, end in ends.items() if len(end)}
    if len(known) > 1:
        spreads = "; ".join(
            f"{arm} {_spread(end[:, 0], 2)}, training accuracy {_spread(end[:, 1], 3)} "
            f"(n = {len(end)})"
            for arm, end in known.items()
        )
        lines.append(f"Largest eigenvalue at the end, mean ± sd over runs: {spreads}.")
    return lines


def _instabilities(arm: str, runs: Sequence[RecordedRun]) -> str:
    """How many runs become unstable, how often, and when for the first time."""
    unstable = [run.instabilities for run in runs if len(run.instabilities)]
    counts = [len(run.instabilities) for run in runs]
    line = f"{len(unstable)} of {len(runs)} runs of {arm} become unstable"
    if unstable:
        first = _spread([table["onset"].iloc[0] for table in unstable], 0)
        line += f", {_spread(counts, 1)} times per run, first at step {first}"
    return f"{line}."


def _sharpness(arm: str, runs: Sequence[RecordedRun]) -> str:
    """How sharp the valley is when an instability begins, in units of 1 / learning rate."""
    rows = [run.instabilities for run in runs if "hessian_at_onset" in run.instabilities]
    if not rows:
        return ""
    sharp = pd.concat([table["hessian_at_onset"] * table[keys.LEARNING_RATE] for table in rows])
    sharp = sharp.dropna()
    if sharp.empty:
        return ""
    low, middle, high = sharp.quantile([0.25, 0.5, 0.75])
    return (
        f"At the onset of an instability of {arm}, lambda_max times the learning rate has a median "
        f"of {middle:.2f}, its middle half between {low:.2f} and {high:.2f}, all between "
        f"{sharp.min():.2f} and {sharp.max():.2f} (n = {len(sharp)} instabilities; on a quadratic, "
        f"this optimiser is stable below {runs[0].bound:.3g})."
    )


def _kernel(arm: str, runs: Sequence[RecordedRun]) -> str:
    """What an instability does to the tangent kernel, and what happens without one."""
    tables = [of_run for run in runs if not (of_run := kernel_falls(run)).empty]
    if not tables:
        return ""
    falls = pd.concat(tables)
    line = (
        f"The tangent kernel's lambda_max falls across {int((falls['fall'] > 0).sum())} of "
        f"{len(falls)} instabilities of {arm}, by {_spread(falls['fall'].tolist(), 2)} of its value"
    )
    placebo = [table.dropna(subset="placebo") for table in tables]
    placebo = [table for table in placebo if len(table)]
    if not placebo:
        return f"{line}; no other period has a window without an instability to compare with."
    windows = pd.concat(placebo)
    excess = [float((table["fall"] - table["placebo"]).mean()) for table in placebo]
    line += (
        f"; {len(windows)} of them can be compared with windows of equal length, at the same "
        f"place in other periods, without an instability: there it falls by "
        f"{_spread(windows['placebo'].tolist(), 2)}, against "
        f"{_spread(windows['fall'].tolist(), 2)} across these instabilities"
    )
    if len(excess) > 1:
        half = float(stats.t.ppf(0.975, len(excess) - 1) * stats.sem(excess))
        middle = float(np.mean(excess))
        line += (
            f", a difference of {middle:+.2f} [{middle - half:+.2f}, {middle + half:+.2f}] "
            f"(means of n = {len(excess)} runs, 95% t interval)"
        )
    return f"{line}."


def kernel_falls(run: RecordedRun) -> pd.DataFrame:
    """The fraction by which the tangent kernel's lambda_max falls across each instability, `fall`,
    and the mean fall in its placebo windows, `placebo`, NaN without one. Placebo windows have the
    same length and place in other periods that oscillate, and touch no instability."""
    columns = ["onset", "end", "ntk_before", "ntk_after"]
    known = run.instabilities.reindex(columns=columns).dropna()
    windows = zip(known["onset"].astype(int), known["end"].astype(int), strict=True)
    return pd.DataFrame(
        {
            "fall": 1 - known["ntk_after"] / known["ntk_before"],
            "placebo": [_placebo(run, begin, end) for begin, end in windows],
        },
        dtype=float,
    )


def _placebo(run: RecordedRun, onset: int, end: int) -> float:
    if run.period is None:
        return float("nan")
    measured = run.curvature[[keys.STEP, keys.NTK_LAMBDA_MAX]].dropna()
    steps, values = measured[keys.STEP].to_numpy(), measured[keys.NTK_LAMBDA_MAX].to_numpy()
    length, falls = end - onset, []
    for begin in range(onset % run.period, run.stop - length + 1, run.period):
        over = begin + length
        before, after = steps.searchsorted(begin, "right") - 1, steps.searchsorted(over)
        calm = all(over <= first or last <= begin for first, last in run.spans())
        if calm and before >= 0 and after < len(steps):
            falls.append(1 - float(values[after] / values[before]))
    return float(np.mean(falls)) if falls else float("nan")


def _ends(runs: Sequence[RecordedRun]) -> np.ndarray:
    """(n, 2) final lambda_max and training accuracy of the runs that have both."""
    ends = [(run.final_lambda_max, run.final_accuracy) for run in runs]
    table = np.array(ends, dtype=float).reshape(-1, 2)  # None is NaN
    whole: np.ndarray = table[np.isfinite(table).all(axis=1)]
    return whole


def _spread(values: Sequence[float] | np.ndarray, decimals: int) -> str:
    """`4,022 ± 169`: mean and standard deviation."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "unknown"
    mean = f"{np.mean(known):,.{decimals}f}"
    return mean if len(known) < 2 else f"{mean} ± {np.std(known, ddof=1):,.{decimals}f}"
