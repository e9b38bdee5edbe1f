"""A report with every part, and a name that tries to break out of its page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd

from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.report.page.document import (
    Command,
    Estimate,
    Finding,
    Picture,
    Report,
    Section,
    TrialTable,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"><path d="M0 0h9"/></svg>'
HOSTILE = (
    "</script><script>window.hacked=1</script><!--<script>\u2028\u2029'\"&amp;{{7*7}}"
    "<img src=x onerror=window.hacked=1>"
)


def trials(n: int = 60) -> pd.DataFrame:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "arm": np.where(np.arange(n) % 3, "dynamical", "static"),
            "trial": np.arange(n) + 12_000,
            "period": pd.array(draws.integers(1_000, 90_000, n), dtype="Int64"),
            "learning_rate": 10 ** draws.uniform(-6, 1, n),
            "steps": 35_000,
            "gain": draws.normal(0, 0.1, n),
            "diverged": draws.random(n) < 0.2,
            "train_loss": draws.exponential(1, n),
            "run_id": [draws.bytes(16).hex() for _ in range(n)],
        }
    )
    frame.loc[frame["arm"] == "static", "period"] = pd.NA
    frame.loc[4, "train_loss"] = np.inf
    frame.loc[5, "train_loss"] = np.nan
    frame.loc[3, "run_id"] = None
    return frame


def report(name: str = "a study", table: pd.DataFrame | None = None, **changes: Any) -> Report:
    parts: dict[str, Any] = {
        "title": name,
        "question": f"Does {name} gain?",
        "facts": {"trials of " + name: "60"},
        "findings": [
            Finding(f"{outcome} {name}", outcome, Estimate(0.1, -0.1, 0.3, 0.02, name), {name: "n"})
            for outcome in (*OUTCOME_IN_WORDS, None)
        ],
        "warnings": ["3 diverged: see `dynloss status`", name],
        "sections": [
            Section(name, [name, "more"], [Picture(PNG, f"alt {name}", name), Picture(SVG, "map")]),
            Section("Best", table=pd.DataFrame({name: [name], "n": [1]}), table_caption="Best"),
        ],
        "trials": TrialTable(trials() if table is None else table, {}, "run_id", note=name),
        "study_file": f"name: {name}\nseed: 0\n",
        "commands": [Command("dynloss run study.yaml", f"Again, {name}:")],
        "provenance": {"version.torch": "2.15.0", "hardware.cpu": name, "commit": "aa5002573461"},
    }
    return Report(**{**parts, **changes})
