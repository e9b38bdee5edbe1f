"""A winner as a plain PyTorch script, run where nothing of this project can be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import studies
from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.data import DATA_SETS
from dynloss_core.losses import LOSSES
from dynloss_core.models import MODELS
from dynloss_core.oscillation import SHAPES
from studies.plain_script.loss_code import ELEMENTS
from studies.plain_script.weights_code import ELEVATIONS
from studies.report.returned_result import StudyResult
from tests.services import SECONDS
from tests.studies.commands import dynloss_here
from tests.studies.tiny import CONFIRM, tiny_study

BLOCKED = ("dynloss_core", "search_spaces", "studies", "sklearn", "pandas", "scipy", "optuna")
RUN = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED}))
for script in sys.argv[1:]:
    print("script", script)
    runpy.run_path(script, run_name="__main__")
"""
PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from dynloss_core.data import Labelled, PixelScale, Splits
from dynloss_core.losses import LOSSES as BUILT_IN
from dynloss_core.oscillation import SHAPES as KNOWN

LOSSES = {"own_loss": BUILT_IN["focal"]}
SHAPES = {"own_shape": KNOWN["sine"]}


@dataclass(frozen=True)
class Pixels:
    name: Literal["pixels"] = "pixels"
    num_classes: ClassVar[int] = 3
    training_samples: ClassVar[int] = 30
    input_shape: ClassVar[tuple[int, ...]] = (2, 8, 8)

    def load(self, seed):
        draws = torch.Generator().manual_seed(seed)
        scale = PixelScale((0.4, 0.6), (0.3, 0.2))
        parts = []
        for count in (30, 20, 20):
            images = torch.randint(256, (count, 2, 8, 8), generator=draws, dtype=torch.uint8)
            parts.append(Labelled(images, torch.arange(count) % 3, scale))
        return Splits(*parts, 3)


@dataclass(frozen=True)
class Linear:
    name: Literal["own_network"] = "own_network"
    initialisation: str = "lecun_normal"

    def build(self, input_shape, num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], num_classes))
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


def printed_by(scripts: list[Path]) -> dict[str, str]:
    """What scripts print where this project cannot be imported, by their names."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", RUN, *map(str, scripts)],
        cwd=scripts[0].parent, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("script ")[1:]
    return {script.stem: part for script, part in zip(scripts, parts, strict=True)}


def agrees(printed: str, row: Any, what: str = "", rel: float = 1e-8) -> None:
    """Check what a script prints at its end against a row of the members table."""
    number = r"(\S+)"
    lines = re.findall(rf"^(\w+) +loss {number}  accuracy {number}  recorded: loss", printed, re.M)
    measured = {split: (float(loss), float(accuracy)) for split, loss, accuracy in lines}
    assert set(measured) == {"train", "validation", "test"}, what
    for split, (loss, accuracy) in measured.items():
        assert loss == pytest.approx(row[f"{split}_loss"], rel=rel), what
        assert accuracy == pytest.approx(row[f"{split}_accuracy"], abs=1e-6), what


def confirmed(members: pd.DataFrame, arm: str) -> Any:
    """The row of an arm's winner on the first fresh seed."""
    rows = members[(members[keys.ARM] == arm) & members[keys.TEST_LOSS].notna()]
    return rows.sort_values(keys.SEED).iloc[0]


@pytest.fixture(scope="module")
def spirals(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study of all arms, run to its end."""
    return studies.run(study_of(ARMS), tmp_path_factory.mktemp("out"))


def printed_by_all(spirals: StudyResult, into: Path) -> dict[str, str]:
    """What the script of each arm prints, by arm."""
    scripts = [studies.export(spirals, arm=arm, into=into) for arm in ARMS]
    files = {f"train_tiny_{arm}{suffix}" for arm in ARMS for suffix in (".py", ".pt")}
    assert {path.name for path in into.iterdir()} == files
    for script in scripts:
        text = script.read_text()
        assert not re.search(r"dynloss_core|search_spaces|import studies|numpy", text)
        assert ("weights_at" in text) == ("static" not in script.name)
        assert len(text.splitlines()) < 150
    return {name.removeprefix("train_tiny_"): text for name, text in printed_by(scripts).items()}


def test_every_script_ends_where_the_study_did(
    spirals: StudyResult, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In one test: the study is run where it is, and not in three processes."""
    for arm, text in printed_by_all(spirals, tmp_path_factory.mktemp("scripts")).items():
        agrees(text, confirmed(spirals.members, arm), arm)


def test_every_loss_and_shape_has_a_case() -> None:
    training = [arm.get("training", {}) for arm in ARMS.values()]
    assert {each.get("loss", "cross_entropy") for each in training} == set(ELEMENTS)
    shapes = {each.get("oscillation", {}).get("shape", "triangle") for each in training}
    assert shapes == set(ELEVATIONS)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[str]:
    """The path of a plug-in, whose rows leave the tables afterwards."""
    path = tmp_path / "own.py"
    path.write_text(PLUGIN)
    yield str(path)
    for table in (MODELS, DATA_SETS, LOSSES, SHAPES):
        for name in ("pixels", "own_network", "own_loss", "own_shape"):
            table.pop(name, None)


NETWORKS: dict[str, dict[str, Any]] = {
    "myrtle": {"name": "myrtle5", "channels": 4},
    "wide": {"name": "wide_resnet", "depth": 10, "widening": 1, "dropout": 0.3},
    "grouped": {"name": "wide_resnet", "depth": 10, "widening": 1, "normalisation": "group"},
    "bare": {"name": "wide_resnet", "depth": 10, "widening": 1, "normalisation": "none"},
    "mlp": {"name": "mlp", "width": 5, "depth": 2},
    "linear": {"name": "mlp", "depth": 0},
}


@pytest.mark.slow
def test_networks_on_bytes_of_images_end_where_the_study_did(plugin: str, tmp_path: Path) -> None:
    """The data set is a plug-in's: a script holds its samples, and needs no more of it."""
    scripts, rows = [], {}
    for name, model in NETWORKS.items():
        study = study_of(
            {"published": {}},
            name=name,
            data={"name": "pixels"},
            model=model,
            plugins=[plugin],
            training={"dtype": "float64", "batch_size": 8},
            budget={"total": 12, "static_tail": 3, "evaluate_every": 6},
        )
        result = studies.run(study, tmp_path)
        scripts.append(studies.export(result, into=tmp_path))
        rows[scripts[-1].stem] = confirmed(result.members, "published")
    for script, text in printed_by(scripts).items():
        agrees(text, rows[script])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a network": ({"model": {"name": "own_network"}}, "model.name: 'own_network', a network of a"),
    "a loss": (
        {"training": {"loss": "own_loss"}},
        "training.loss: 'own_loss', a loss of a plug-in",
    ),
    "a shape": (
        {"training": {"oscillation": {"shape": "own_shape"}}},
        "training.oscillation.shape: 'own_shape', a shape of a plug-in, cannot be exported",
    ),
    "augmentation": (
        {"training": {"augmentation": {"flip": True}}, "data": {"name": "pixels"}},
        "training.augmentation: what happens to images at each visit cannot be exported",
    ),
    "half precision": ({"training": {"dtype": "bfloat16"}}, "training.dtype: bfloat16 cannot be"),
    "a capped rate": (
        {"training": {"learning_rate_schedule": {"curvature": {"every": 30}}}},
        "training.learning_rate_schedule.curvature: a rate that follows the curvature cannot be",
    ),
    "sharpness-aware batch statistics": (
        {
            "training": {"sam_radius": 0.1},
            "data": {"name": "pixels"},
            "model": {"name": "wide_resnet", "depth": 10, "widening": 1},
        },
        "training.sam_radius: sharpness-aware minimisation with batch statistics cannot be",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_script_can_say_is_refused_by_name(what: str, plugin: str, tmp_path: Path) -> None:
    changes, said = REFUSED[what]
    short = {"total": 2, "static_tail": 0, "evaluate_every": 2}
    study = study_of({"published": {}}, plugins=[plugin], budget=short, **changes)
    studies.run(study, tmp_path / "out")
    done = dynloss_here("export", "tiny", "--out", tmp_path / "out", "--into", tmp_path / "into")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert "; train it with `dynloss train --from tiny`" in done.stderr
    assert not (tmp_path / "into").exists()


def test_the_command_writes_what_it_says_and_spares_what_was_edited(
    spirals: StudyResult, tmp_path: Path
) -> None:
    words = ("export", "tiny", "--arm", "batches", "--out", spirals.folder.parent)
    done = dynloss_here(*words, "--into", tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stderr
    script = tmp_path / "new" / "folder" / "train_tiny_batches.py"
    assert f"script     {script}" in done.stdout
    text = script.read_text()
    for said in (
        "made by   dynloss export tiny --arm batches --search 1 --seed 50000",
        "momentum=0.8",
        "nesterov=True",
        "math.cos",
    ):
        assert said in text
    assert dynloss_here(*words, "--into", script.parent).returncode == 0
    script.write_text(text + "# mine")
    again = dynloss_here(*words, "--into", script.parent)
    assert (again.returncode, "holds another script already" in again.stderr) == (2, True)
    assert script.read_text().endswith("# mine")
    missing = dynloss_here(*words, "--into", "/proc/nowhere")
    assert (missing.returncode, "cannot be written" in missing.stderr) == (2, True)


def test_another_seed_and_arm(spirals: StudyResult, tmp_path: Path) -> None:
    text = studies.export(spirals, arm="static", seed=3, into=tmp_path).read_text()
    assert "--arm static --search 1 --seed 3" in text
    with pytest.raises(ConfigError, match="'nothing' is not an arm of tiny"):
        studies.export(spirals, arm="nothing", into=tmp_path)
