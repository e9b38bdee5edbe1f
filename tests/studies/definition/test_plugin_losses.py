"""A loss and a shape of one's own, from a file."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynloss_core.config import ConfigError
from dynloss_core.losses import LOSSES
from dynloss_core.oscillation import SHAPES
from dynloss_core.plugins import read_plugin
from dynloss_core.training import choose_engine
from studies.definition.study import Study
from studies.definition.study_files import load_study, study_from_mapping
from studies.runner.run_study import run_study
from tests.studies.commands import dynloss_here
from tests.studies.tiny import MAP, tiny_document

OWN = '''\
"""Cross-entropy by another name, and a triangle by another formula."""

import torch
import torch.nn.functional as F
from dynloss_core.losses import Loss


def entropy(outputs, targets, weights, groups=None):
    own = weights[targets if groups is None else groups]
    return (own * F.cross_entropy(outputs, targets, reduction="none")).mean()


def classes(outputs, one_hot):
    log_p = (F.log_softmax(outputs, -2) * one_hot).sum(-2, keepdim=True)
    return -(one_hot * log_p).mean(-1)


LOSSES = {"entropy": Loss(entropy, classes)}
SHAPES = {"peak": lambda tau, period: 1 - (2 * tau.double() / period - 1).abs()}
'''


@pytest.fixture(autouse=True)
def tables_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))
    yield
    for table in (LOSSES, SHAPES):
        for name in ("entropy", "peak", "other"):
            table.pop(name, None)


def study_of(folder: Path, text: str = OWN, **training: Any) -> Study:
    (folder / "own.py").write_text(text)
    document = tiny_document(
        **MAP,
        plugins=["./own.py"],
        training=training,
        grid={"period": 1, "amplitude": 1, "learning_rate": 2},
        backend="inline",
        engine="autograd",
        storage={"tracker": "none"},
    )
    path = folder / "own.yaml"
    path.write_text(json.dumps(document))
    return load_study(path)


def losses_of(study: Study, out: Path) -> pd.Series:
    outcome = run_study(study, out)
    assert outcome.finished
    assert not outcome.failures
    return outcome.folder.parts.gather("members")["train_loss"]


def test_a_study_trains_with_them_as_with_what_they_copy(tmp_path: Path) -> None:
    own = study_of(tmp_path, loss="entropy", oscillation={"shape": "peak"})
    built_in = study_of(tmp_path)
    assert own.hash != built_in.hash
    found = losses_of(own, tmp_path / "own")
    expected = losses_of(built_in, tmp_path / "built in")
    pd.testing.assert_series_equal(found, expected, rtol=1e-6)


def test_they_are_unknown_without_their_file() -> None:
    for training in ({"loss": "entropy"}, {"oscillation": {"shape": "peak"}}):
        with pytest.raises(ConfigError, match="is not one of the choices"):
            study_from_mapping(tiny_document(training=training))


def test_they_travel_to_another_process(tmp_path: Path) -> None:
    study = study_of(tmp_path, loss="entropy", oscillation={"shape": "peak"})
    code = (
        "import pickle, sys; study = pickle.loads(sys.stdin.buffer.read());"
        "from dynloss_core.losses import LOSSES; from dynloss_core.oscillation import SHAPES;"
        "print(study.training.loss in LOSSES, study.training.oscillation.shape in SHAPES)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(study), capture_output=True, check=True
    )
    assert done.stdout == b"True True\n"


def test_an_edited_file_is_another_study(tmp_path: Path) -> None:
    before = study_of(tmp_path, loss="entropy").hash
    after = study_of(
        tmp_path, OWN.replace(").mean()\n", ").sum() / len(targets)\n"), loss="entropy"
    )
    assert after.hash != before


def test_a_study_trains_with_the_text_that_it_was_loaded_with(tmp_path: Path) -> None:
    before = study_of(tmp_path, loss="entropy")
    study_of(tmp_path, OWN.replace("(own * F", "(3 * own * F"), loss="entropy")
    found = losses_of(before, tmp_path / "own")
    expected = losses_of(study_of(tmp_path), tmp_path / "built in")
    pd.testing.assert_series_equal(found, expected, rtol=1e-6)


def test_an_engine_that_needs_a_form_refuses_it(tmp_path: Path) -> None:
    problem = study_of(tmp_path, loss="entropy").problem("static")
    with pytest.raises(ConfigError, match="the loss 'entropy' has no form for compiled kernels"):
        choose_engine(problem, "fused")


def test_the_check_runs_their_contracts(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    done = dynloss_here("check", tmp_path / "own.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("loss entropy", "gradient against finite differences", "shape peak"):
        assert line in done.stdout


def test_what_breaks_a_contract_is_told_in_a_line(tmp_path: Path) -> None:
    tolerant = OWN.replace(
        "    own = weights", "    targets = targets % outputs.shape[1]\n    own = weights"
    )
    slanted = tolerant.replace(
        "1 - (2 * tau.double() / period - 1).abs()", "tau.double() / period * 2"
    )
    assert len({OWN, tolerant, slanted}) == 3
    (tmp_path / "own.py").write_text(slanted)
    failed = dynloss_here("check", tmp_path / "own.py")
    assert failed.returncode == 1
    assert "a label that is no class is one clear error" in failed.stdout
    assert "FAILED: AssertionError: outside [0, 1]" in failed.stdout, "what follows is still tried"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LOSSES = [1]", "LOSSES is not a mapping"),
        ("LOSSES = {'other': 3}", "LOSSES['other'] is not a losses.Loss"),
        ("SHAPES = {'other': 3}", "SHAPES['other'] is not a function"),
        ("SHAPES = {3: abs}", "SHAPES[3] is not a function"),
        ("SHAPES = {'sine': abs}", "the name 'sine' is built in"),
        (
            "from dynloss_core.losses import LOSSES",
            "defines no network, data set, loss, shape or analysis",
        ),
    ],
)
def test_what_does_not_fit_is_refused(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(line)
    with pytest.raises(ConfigError) as refusal:
        read_plugin(path)
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value)
