"""A winner as a plain PyTorch script, run where nothing of this project can be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import studies
from dynloss_core import keys
from studies.plain_script.loss_code import ELEMENTS
from studies.plain_script.weights_code import ELEVATIONS
from tests.services import SECONDS
from tests.studies.tiny import CONFIRM, tiny_study

BLOCKED = ("dynloss_core", "search_spaces", "studies", "sklearn", "pandas", "scipy", "optuna")
RUN = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED}))
runpy.run_path(sys.argv[1], run_name="__main__")
"""
POINT = {"period": 7, "amplitude": 9.0, "learning_rate": 0.2}
UNTRACKED: dict[str, Any] = {"backend": "inline", "storage": {"tracker": "none"}}
BUDGET = {"total": 60, "static_tail": 8, "evaluate_every": 30}


def oscillating(**oscillation: object) -> dict[str, Any]:
    """What an arm changes."""
    return {"training": {"oscillation": oscillation}}


ARMS: dict[str, dict[str, Any]] = {
    "static": {"baseline": True},
    "published": {},
    "random_permuted_sine_down": oscillating(
        groups="random", order="permuted", shape="sine", direction="down"
    ),
    "stratified_random_square": oscillating(groups="stratified", order="random", shape="square"),
    "sawtooth_later": oscillating(shape="sawtooth", phase=0.4),
    "whole": oscillating(groups="all"),
    "whole_later": oscillating(groups="all", phase=0.4, shape="sine", direction="down"),
    "whole_raw": oscillating(groups="all", normalised=False),
    "every_sample": oscillating(groups="samples"),
    "every_sample_sine": oscillating(groups="samples", shape="sine", normalised=False),
    "every_sample_square": oscillating(groups="samples", shape="square"),
    "every_sample_sawtooth": oscillating(groups="samples", shape="sawtooth", direction="down"),
    "raw": oscillating(normalised=False),
    "smoothed": {"training": {"loss": "cross_entropy_smoothed"}},
    "focal": {"training": {"loss": "focal"}},
    "mse_of_samples": {"training": {"loss": "mse_sample_weighted"}},
    "mse_of_outputs": {"training": {"loss": "mse_output_weighted"}},
    "batches": {"training": {
        "batch_size": 7, "nesterov": True,
        "learning_rate_schedule": {"decay": "cosine", "warmup": 0.1, "final": 0.05},
    }, "fix": {"momentum": 0.8, "weight_decay": 0.01}},
    "batches_of_groups": {"training": {
        "batch_size": 7, "oscillation": {"groups": "random", "number": 5, "order": "random"},
        "learning_rate_schedule": {"decay": "linear"},
    }},
    "warm": {"training": {"learning_rate_schedule": {"warmup": 0.3}}, "fix": {"momentum": 0.5}},
    "sharpness_aware": {"training": {"sam_radius": 0.1, "batch_size": 10}},
}  # fmt: skip
"""Arms on the spirals, in float64; `fix` is in the space, which has no momentum of its own."""


def study_of(arms: dict[str, dict[str, Any]], **changes: Any) -> Any:
    """A study that confirms given winners."""
    constants = {name: {"type": "const", "value": 0.0} for name in ("momentum", "weight_decay")}
    document = {
        **CONFIRM,
        **UNTRACKED,
        "budget": BUDGET,
        "training": {"dtype": "float64"},
        "confirm_seeds": 2,
        "space": {"extends": "spirals-mlp", "name": "own", "parameters": constants},
        "arms": arms,
        "winners": {
            name: {
                k: v for k, v in POINT.items() if k == "learning_rate" or not arm.get("baseline")
            }
            for name, arm in arms.items()
        },
    }
    document["space"]["parameters"]["period"] = {"type": "int", "low": 2, "high": 100}
    return tiny_study(**{**document, **changes})


def ends(printed: str) -> dict[str, tuple[float, float]]:
    """Loss and accuracy at the end, by split."""
    rows = re.findall(r"^(\w+) +loss (\S+)  accuracy (\S+)", printed, re.MULTILINE)
    return {split: (float(loss), float(accuracy)) for split, loss, accuracy in rows}


def run(script: Path, folder: Path) -> str:
    """What the script prints where this project cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", RUN, str(script)],
        cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def agrees(script: Path, members: pd.DataFrame, arm: str, rel: float = 1e-8, seed: int = 0) -> str:
    """Check what a script ends with against the members table; returns its text."""
    rows = members[(members[keys.ARM] == arm) & members[keys.TEST_LOSS].notna()]
    row = rows[rows[keys.SEED] == (seed or rows[keys.SEED].min())].iloc[0]
    printed = run(script, script.parent)
    measured = ends(printed)
    for split in ("train", "validation", "test"):
        recorded = row[f"{split}_loss"], row[f"{split}_accuracy"]
        assert measured[split] == pytest.approx(recorded, rel=rel, abs=1e-6 if rel < 1e-6 else rel)
    assert printed.count("recorded: loss") == 3
    return script.read_text()


@pytest.fixture(scope="module")
def spirals(tmp_path_factory: pytest.TempPathFactory) -> studies.api.StudyResult:
    """A study of all arms, run to its end."""
    return studies.run(study_of(ARMS), tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize("arm", ARMS)
def test_the_script_ends_where_the_study_did(
    arm: str, spirals: studies.api.StudyResult, tmp_path: Path
) -> None:
    script = studies.export(spirals, arm=arm, into=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"train_tiny_{arm}.pt",
        f"train_tiny_{arm}.py",
    ]
    text = agrees(script, spirals.members, arm)
    assert not re.search(r"dynloss_core|search_spaces|import studies|numpy", text)
    assert ("weights_at" in text) == (arm != "static")
    assert len(text.splitlines()) < 150


def test_every_loss_and_shape_has_a_case() -> None:
    training = [arm.get("training", {}) for arm in ARMS.values()]
    assert {each.get("loss", "cross_entropy") for each in training} == set(ELEMENTS)
    shapes = {each.get("oscillation", {}).get("shape", "triangle") for each in training}
    assert shapes == set(ELEVATIONS)
