"""The recipes of CONTRIBUTING.md, walked: a row is added, and every list knows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.data import DATA_SETS, Labelled, Splits
from dynloss_core.losses.registry import LOSSES, Loss
from dynloss_core.losses.weighted import weighted_mse
from dynloss_core.models import MODELS, Initialisation
from dynloss_core.oscillation import (
    GROUPS,
    ORDERS,
    SHAPES,
    GroupsName,
    OrderName,
    Oscillation,
    SampleGroups,
)
from dynloss_core.seeding import Stream, generator
from dynloss_core.training import ENGINES, AutogradEngine, Member, Problem, Setup, choose_engine
from studies.analysis.analyses import ANALYSES
from studies.blocks.block import Block
from studies.blocks.block_run import BlockRun
from studies.definition.options import TrackerName
from studies.definition.samplers import SAMPLERS, Sampler
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from studies.runner.run_study import run_study
from studies.search.arm_search import ArmSearch
from studies.storage.stored_study import StoredStudy
from studies.storage.tracking.trackers import TRACKERS
from tests.studies.memory_tracker import MemoryTracker
from tests.studies.sessions import run_without_ray, session_of, train_next


@dataclass(frozen=True)
class GatedConfig:
    """A network that no engine was written for."""

    name: Literal["gated"] = "gated"
    width: int = 5
    initialisation: Initialisation = "lecun_normal"

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return Gated(*input_shape, self.width, num_classes)


class Gated(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.values, self.gates = nn.Linear(inputs, width), nn.Linear(inputs, width)
        self.out = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.values(inputs) * torch.sigmoid(self.gates(inputs)))


@dataclass(frozen=True)
class BlobsConfig:
    """Two clouds of points in three dimensions."""

    name: Literal["blobs"] = "blobs"
    points: int = 12
    num_classes: int = 2

    @property
    def training_samples(self) -> int:
        return 2 * self.points

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3,)

    def load(self, seed: int) -> Splits:
        draws = generator(seed, Stream.DATA)
        return Splits(*(self._drawn(draws) for _ in range(3)), num_classes=2)

    def _drawn(self, draws: Any) -> Labelled:
        targets = torch.arange(2).repeat_interleave(self.points)
        noise = torch.from_numpy(draws.standard_normal((2 * self.points, 3)))
        return Labelled(noise + 2 * targets[:, None], targets)


def study_with(tiny: Path, *changes: str) -> Study:
    return load_study(tiny, [*changes, "trials_per_arm=2", "confirm_seeds=2"])


def trained(study: Study) -> pd.DataFrame:
    """The first block of a study, trained here."""
    block = ArmSearch(study, "dynamical", optuna.storages.InMemoryStorage()).ask()
    assert isinstance(block, Block)
    run = BlockRun(study, block)
    for _ in run.progress():
        pass
    members = run.result().members
    assert len(members) == block.members
    assert not members[keys.DIVERGED].any()
    return members


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    from tests.studies.tiny import TINY

    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def test_a_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"model.name: 'gated' is not one of the choices.*mlp, myrtle5"
    ):
        study_with(tiny, "model={name: gated}")
    monkeypatch.setitem(MODELS, "gated", GatedConfig)
    study = study_with(tiny, "model={name: gated, width: 4}")
    assert study.model == GatedConfig(width=4)
    assert trained(study)[keys.ENGINE].unique().tolist() != ["fused"]


def test_a_data_set(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"data.name: 'blobs' is not one of the choices.*spirals, digits"
    ):
        study_with(tiny, "data={name: blobs}")
    monkeypatch.setitem(DATA_SETS, "blobs", BlobsConfig)
    study = study_with(tiny, "data={name: blobs, points: 10}")
    assert study.data == BlobsConfig(points=10)
    trained(study)


def test_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its row leaves out, engines refuse by name; those that need no more train it."""
    mse = LOSSES["mse_sample_weighted"]
    halved = partial(weighted_mse, variant="sample_weighted")
    row = Loss(lambda *given: halved(*given) / 2, lambda *given: mse.classes(*given) / 2)
    monkeypatch.setitem(LOSSES, "half_mse", row)
    problem = Problem(steps=20, static_tail=0, evaluate_every=10, dtype="float64")
    object.__setattr__(problem, "loss", "half_mse")  # what its name in `LossName` would allow
    with pytest.raises(ConfigError, match="the loss 'half_mse' has no form for compiled kernels"):
        choose_engine(problem, "fused")
    engine = choose_engine(problem)
    found = engine(Setup.build(problem, [Member(0.2, seed=0)])).run()
    other = Problem(
        steps=20, static_tail=0, evaluate_every=10, dtype="float64", loss="mse_sample_weighted"
    )
    expected = AutogradEngine(Setup.build(other, [Member(0.1, seed=0)])).run()
    for one, two in zip(found.evaluations, expected.evaluations, strict=True):
        torch.testing.assert_close(one.train_loss, two.train_loss / 2)


class PatientEngine(AutogradEngine):
    """An engine that nobody knew: the reference, for one member at a time."""

    name = "patient"

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        return None if device == "cpu" else "it runs on the CPU"

    @classmethod
    def is_faster(cls, problem: Problem) -> bool:
        return problem.batch_size is None


def test_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(steps=20, static_tail=0, evaluate_every=10, dtype="float64")
    setup = Setup.build(problem, [Member(0.2, seed=0)])
    before = choose_engine(problem)
    monkeypatch.setitem(ENGINES, "patient", (PatientEngine,))
    assert choose_engine(problem, "patient") is PatientEngine  # type: ignore[arg-type]
    assert choose_engine(problem) is before, "it stands last"
    with pytest.raises(ConfigError, match="'patient' cannot train this problem: it runs on the"):
        choose_engine(problem, "patient", "cuda")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no engine 'quick'; .* auto, fused, .*, patient"):
        choose_engine(problem, "quick")  # type: ignore[arg-type]
    table = import_module("dynloss_core.training.choose_engine")
    monkeypatch.setattr(table, "ENGINES", {"patient": (PatientEngine,), **ENGINES})
    assert choose_engine(problem) is PatientEngine, "it stands first"
    assert choose_engine(replace(problem, batch_size=8)) is not PatientEngine, "it says so"
    assert PatientEngine(setup).state_dict()["engine"] == "patient"
    with pytest.raises(ValueError, match="belongs to engine 'patient'"):
        before(setup).load_state_dict(PatientEngine(setup).state_dict())


def test_an_oscillation(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape, an order and groups of one's own, under names that a study's file may use."""
    for key, table, names in (
        ("shape", SHAPES, None), ("order", ORDERS, OrderName), ("groups", GROUPS, GroupsName),
    ):  # fmt: skip
        assert names is None or set(get_args(names)) == set(table)
        with pytest.raises(
            ConfigError, match=f"oscillation.{key}: 'mine' is not one of the choices"
        ):
            study_with(tiny, f"training.oscillation.{key}=mine")
    halves = SampleGroups(
        lambda *_: 2, lambda targets, *_: (np.arange(len(targets)) >= len(targets) // 2) * 1
    )
    monkeypatch.setitem(GROUPS, "random", halves)
    monkeypatch.setitem(ORDERS, "random", lambda groups, *_: np.zeros(groups, np.int64))
    monkeypatch.setitem(SHAPES, "square", lambda tau, period: (tau * 2 >= period).double())
    oscillation = "{groups: random, order: random, shape: square}"
    study = study_with(tiny, f"training.oscillation={oscillation}", "engine=fused")
    problem = study.problem("dynamical", {})
    assert problem.oscillation == Oscillation(groups="random", order="random", shape="square")
    weights = Setup.build(problem, [Member(0.1, seed=0, period=4, amplitude=3.0)]).class_weights
    assert weights(torch.arange(8))[:, 0].tolist() == 2 * [[1, 1], [1, 1], [1.5, 0.5], [1.5, 0.5]]
    trained(study)


def test_a_sampler(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = Sampler(
        modes=("optimize",),
        design=lambda space, counts, trials, seed: (
            [{name: space.parameters[name].at(0.5) for name in space.searched()}] * trials
        ),
    )
    monkeypatch.setitem(SAMPLERS, "random", middle)
    members = trained(study_with(tiny, "sampler=random"))
    assert members[keys.LEARNING_RATE].nunique() == 1


def test_a_tracker(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError,
        match=r"tracker: 'memory' is not one of the choices; choose one of: mlflow, none",
    ):
        study_with(tiny, "storage.tracker=memory")
    assert set(get_args(TrackerName)) == set(TRACKERS)
    held: dict[str, Any] = {}
    monkeypatch.setitem(TRACKERS, "none", lambda stored: lambda: MemoryTracker(held))
    run_without_ray(monkeypatch)
    outcome = run_study(study_with(tiny, "storage.tracker=none"), tmp_path)
    finished, metrics, *_ = held["study"]
    assert finished
    assert "verdict_difference" in metrics
    assert {run.status for run in held["trials"].values()} == {"FINISHED"}
    assert StoredStudy.read(outcome.folder).state["memory_run"] == "study"


SPREAD = '''
"""How far apart the seeds of a trial lie."""

from functools import partial

from dynloss_core import keys
from studies.analysis.card import Card, Drawing
from studies.analysis.figures.style import blank_figure, headline


def cards(tables):
    metric = tables.question.objective
    spread = tables.search.groupby([keys.ARM, keys.TRIAL])[metric].std().reset_index(name="sd")
    if spread["sd"].notna().any():
        drawing = Drawing("spread", "Seeds differ", "A bar a trial.", partial(draw, spread))
        yield Card(
            "The spread over seeds",
            [drawing],
            paragraphs=["Within a trial."],
            table=spread.head(1),
            table_caption="The first trial.",
            files={"spread.csv": spread},
            sentences=[f"Seeds spread in {len(spread)} trials."],
            warnings=["a spread is not an interval"],
        )


def draw(spread):
    with blank_figure(4, 3) as figure:
        figure.subplots().bar(range(len(spread)), spread["sd"])
        headline(figure, "Seeds differ")
    return figure
'''


def test_an_analysis(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file and its row: it is in the report, the figures, the tables and the findings."""
    (tmp_path / "spread_of_seeds.py").write_text(SPREAD)
    monkeypatch.syspath_prepend(tmp_path)
    row = import_module("spread_of_seeds").cards
    session = session_of(study_with(tiny), tmp_path)
    train_next(session)
    folder = session.folder

    def written() -> tuple[str, dict[str, Any], set[str]]:
        results = write_results(session.stored)
        names = {path.name for path in (*results.figures, *results.tables)}
        return folder.report.read_text(), json.loads(folder.summary.read_text()), names

    page, summary, names = written()
    monkeypatch.setitem(ANALYSES, "spread over seeds", row)
    with_it, told, more = written()
    assert more - names == {"spread.png", "spread.csv"}
    assert pd.read_csv(folder.tables / "spread.csv")["sd"].notna().all()
    assert (folder.figures / "spread.png").read_bytes().startswith(b"\x89PNG")
    assert [s for s in told["findings"] if s not in summary["findings"]] == [
        "Seeds spread in 2 trials."
    ]
    assert "a spread is not an interval" in told["warnings"]
    for text in (
        "The spread over seeds",
        'alt="Seeds differ"',
        "A bar a trial.",
        "Within a trial.",
        "The first trial.",
        "Seeds spread in 2 trials.",
        "a spread is not an interval",
    ):
        assert text in with_it
        assert text not in page


def test_the_guide_names_what_is_there() -> None:
    """Every path in it exists."""
    import re

    root = Path(__file__).parents[2]
    text = (root / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:studies|dynloss_core|search_spaces|tests)/[\w./]+)`", text)
    assert len(paths) > 20
    for path in paths:
        assert (root / path).exists(), path
