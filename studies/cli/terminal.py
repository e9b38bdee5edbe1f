"""What the commands print beside their progress."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table
from rich.text import Text

from dynloss_core.config import printable
from studies.messages import console, duration, paragraph, say

if TYPE_CHECKING:
    from studies.cluster.capacity import Capacity
    from studies.definition.study import Study
    from studies.report.side_by_side import SideBySide
    from studies.runner.dry_run import Cost
    from studies.storage.status_file import StudyStatus

__all__ = [
    "show_changing",
    "show_comparison",
    "show_crash",
    "show_estimate",
]

_SECONDS_BETWEEN_UPDATES = 2.0


def show_estimate(study: Study, cost: Cost, capacity: Capacity) -> None:
    """Print what a study would cost."""
    trials = " + ".join(f"{count} {arm}" for arm, count in cost.trials.items())
    gpu = study.resources.gpu
    resources = f"{study.resources.cpu:g} CPU, {gpu if gpu == 'auto' else f'{gpu:g}'} GPU"
    if cost.blocks_on_gpu > 1:
        resources += f" ({cost.blocks_on_gpu} share one)"
    available = f"{capacity.get('CPU', 0):g} CPU, {capacity.get('GPU', 0):g} GPU"
    where = "the cluster" if study.backend == "ray" else "this machine"
    engine, time_in_all = cost.engine, "not known"
    if cost.microseconds is not None and cost.seconds is not None:
        engine += f", {cost.microseconds:.1f} µs per network and step (measured here)"
        time_in_all = f"about {duration(cost.seconds)}"
    for label, value in {
        "study": f"{study.name} ({study.mode}), hash {study.hash}",
        "trials": trials,
        "training": f"{cost.members:,} networks in {cost.blocks} blocks",
        "steps": f"{cost.steps:,} each, {cost.members * cost.steps:,} in all",
        "engine": engine,
        "resources": f"a block needs {resources}; {where} has {available}: {cost.parallel} at once",
        "time": time_in_all,
    }.items():
        paragraph(value, label=label)
    for line in cost.layout:
        paragraph(line, label="blocks")
    lines = ["not known: give `spread: {seeds: ...}`, from a pilot"] if study.confirms() else []
    for line in lines if cost.power is None else cost.power.sentences():
        paragraph(line, label="can show")
    if cost.few_pairs is not None:
        paragraph(cost.few_pairs, label="can show")
    for lack in cost.missing:
        paragraph(lack, label="missing")


def show_changing(status: Callable[[], StudyStatus]) -> None:
    """Show a study's status, updated every two seconds, until no driver is running."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            current = status()
            live.update(Text(printable(str(current)), no_wrap=False, overflow="fold"), refresh=True)
            if not current.is_driven:
                return
            time.sleep(_SECONDS_BETWEEN_UPDATES)


def show_comparison(comparison: SideBySide) -> None:
    """Print a comparison of studies, one line per study and setting."""
    from studies.analysis.across_studies import together

    table = Table("study", "data", "metric", "gain", "95% interval", "n", "seeds", "", box=None)
    for row in comparison.rows:
        table.add_row(
            row.label,
            row.data,
            row.metric.replace("_", " "),
            f"{row.gain:+.4f}",
            f"[{row.low:+.4f}, {row.high:+.4f}]",
            str(row.n) if row.unit == "seeds" else f"{row.n} searches",
            "fresh" if row.fresh else "held out",
            row.verdict,
        )
    console.print(table)
    for row in comparison.rows:
        for warning in row.warnings:
            paragraph(f"warning: {row.label}: {warning}")
    if (pooled := together(comparison.rows)) is not None:
        console.print()
        paragraph(pooled.sentence())
    console.print(f"\ntable      {comparison.table}")
    for figure in comparison.figures:
        console.print(f"figure     {figure}")


def show_crash(error: Exception, folder: Path) -> None:
    """Print an error in one line, and write its traceback to a file."""
    log = folder / "error.log"
    with suppress(OSError):
        text = "".join(traceback.format_exception(error))
        log.write_text(text, encoding="utf-8", errors="backslashreplace")
    line = (str(error).strip() or repr(error)).splitlines()[-1][:300]
    say(f"dynloss: {type(error).__name__}: {line} (see {log})", whole=True)
