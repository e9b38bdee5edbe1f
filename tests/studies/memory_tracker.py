"""A tracker that keeps everything in a dictionary, which stands for its store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dynloss_core import keys
from studies.blocks.block import Block

TrialKey = tuple[str, str, int]


@dataclass
class MemoryRun:
    """A run: its status, and each metric's values by step."""

    status: str = "RUNNING"
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)


@dataclass
class MemoryTracker:
    """A `Tracker`; two with one store are two connections to it."""

    store: dict[str, Any] = field(default_factory=dict)
    uri: str = "memory"

    def kept(self) -> dict[str, Any]:
        return {"memory_run": "study"}

    def _trials(self) -> dict[TrialKey, MemoryRun]:
        trials: dict[TrialKey, MemoryRun] = self.store.setdefault("trials", {})
        return trials

    def _of(self, block: Block) -> list[TrialKey]:
        return [(block.phase, block.arm, trial.number) for trial in block.trials]

    def start(self, block: Block) -> None:
        for key in self._of(block):
            self._trials().setdefault(key, MemoryRun())

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        for row in means.to_dict("records"):
            run = self._trials()[block.phase, block.arm, int(row[keys.TRIAL])]
            if run.status == "RUNNING":
                for metric in keys.EVALUATION_METRICS:
                    run.metrics.setdefault(metric, {})[int(row[keys.STEP])] = row[metric]

    def finish(self, block: Block, members: pd.DataFrame) -> int:
        self.start(block)
        closed = 0
        for key in self._of(block):
            run = self._trials()[key]
            if run.status == "RUNNING":
                closed += 1
                lost = members.empty or members[members[keys.TRIAL] == key[2]][keys.DIVERGED].any()
                run.status = "FAILED" if lost else "FINISHED"
        return closed

    def is_finished(self, block: Block) -> bool:
        runs = [self._trials().get(key, MemoryRun()) for key in self._of(block)]
        return all(run.status != "RUNNING" for run in runs)

    def runs(self) -> pd.DataFrame:
        rows = [(*key, "/".join(map(str, key))) for key in sorted(self._trials())]
        return pd.DataFrame(rows, columns=[keys.PHASE, keys.ARM, keys.TRIAL, "mlflow_run"])

    def close(
        self,
        *,
        finished: bool,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Iterable[tuple[Path, str]],
        findings: Sequence[str] = (),
        warnings: Sequence[str] = (),
        trained: str = "",
    ) -> None:
        self.store["study"] = (finished, dict(metrics), dict(tags), list(artifacts))

    def discard(self) -> None:
        self.store["study"] = None
