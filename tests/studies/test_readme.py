"""The README's examples, taken from it and run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml

import search_spaces
import studies
from dynloss_core import keys
from studies.blocks.block import Block, Trial
from studies.blocks.block_run import BlockRun
from studies.definition.study_files import load_study
from tests.studies.commands import dynloss_here
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import tiny_document, tiny_study

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def file_in_readme(name: str) -> str:
    """A Python file that the README shows: its first line is a comment with its name."""
    (text,) = [block for block in blocks("python") if block.startswith(f"# {name}\n")]
    return text


def test_the_space_loads(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("yaml") if "extends: dynloss-base" in block]
    (tmp_path / "space.yaml").write_text(text)
    space = search_spaces.load(tmp_path / "space.yaml")
    assert space.searched() == ["period", "amplitude", "learning_rate", "model.width"]
    assert space.points


def test_the_study_loads_and_is_the_quickstart_but_for_its_name(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("yaml") if "mode: optimize" in block]
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    assert study.members() == load_study("quickstart").members()
    for override in re.findall(r"`--set ([^`]+\.[^`]+)`", README):
        load_study(tmp_path / "study.yaml", [override])


def test_the_loss_and_the_space_in_three_lines() -> None:
    loss_example, groups_example, space_example, *_ = blocks("python")
    model = torch.nn.Linear(4, 10)
    names = {
        "logits": model(torch.randn(8, 4)),
        "targets": torch.randint(10, (8,)),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(loss_example, names)
    assert names["criterion"].current_step == 1  # type: ignore[attr-defined]
    exec(groups_example, names | {"all_targets": torch.arange(50) % 10, "batch": torch.arange(8)})
    study = optuna.create_study()
    lines = [line for line in space_example.splitlines() if not line.startswith("tuner")]
    names = {"trial": study.ask()}
    exec("\n".join(lines), names)
    assert len(names["points"]) == 8 * 8 * 3  # type: ignore[arg-type]
    assert names["space"].to_ray()  # type: ignore[attr-defined]


def test_the_loss_and_the_shape_of_a_plugin_keep_their_contracts(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("py") if "LOSSES" in block]
    (tmp_path / "own.py").write_text(text)
    done = dynloss_here("check", tmp_path / "own.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loss entropy" in done.stdout
    assert "shape peak" in done.stdout


def test_the_data_set_of_a_plugin_keeps_its_contract(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("py") if "splits_of" in block]
    (tmp_path / "fakes.py").write_text(text)
    done = dynloss_here("check", tmp_path / "fakes.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data set fakes" in done.stdout


def test_a_study_runs_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, but for a budget that tests can spend."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: [])
    small = {
        "budget": {"total": 40, "static_tail": 10, "evaluate_every": 20},
        "trials_per_arm": 4,
        "storage": {"tracker": "none"},
    }
    whole = studies.load
    monkeypatch.setattr(studies, "load", lambda name: whole(name).with_(**small), raising=False)
    names: dict[str, Any] = {}
    exec(blocks("python")[-1], names)
    assert names["result"].finished
    assert names["result"].folder == tmp_path / "results" / "narrow"


def test_the_plugin_trains(tmp_path: Path) -> None:
    """Written to a file as it stands, named as the README says, and trained by an engine."""
    (tmp_path / "nets.py").write_text(file_in_readme("nets.py"))
    (text,) = [block for block in blocks("yaml") if "plugins:" in block]
    named = yaml.safe_load(text)
    document = tiny_document(**named, data={"name": "digits"})
    (tmp_path / "my-study.yaml").write_text(yaml.safe_dump(document))
    study = load_study(tmp_path / "my-study.yaml")
    assert study.problem("static", {"model.width": 5}).model.width == 5  # type: ignore[attr-defined]
    points = (Trial(0, {"learning_rate": 0.1}),)
    block = Block(keys.SEARCH, keys.STATIC, 0, points, (0, 1))
    run = BlockRun(study, block)
    list(run.progress())
    assert run.result().members[keys.TRAIN_ACCURACY].gt(0.1).all()


def test_the_analysis_joins_the_report(tmp_path: Path) -> None:
    (tmp_path / "deaths.py").write_text(file_in_readme("deaths.py"))
    session = session_of(tiny_study(), tmp_path)
    finish(session)
    session.delivery.close()
    done = dynloss_here("analyse", "tiny", "--out", tmp_path, "--analysis", tmp_path / "deaths.py")
    assert done.returncode == 0, done.stderr
    assert "Networks at chance" in (tmp_path / "tiny" / "report.html").read_text()
    assert (tmp_path / "tiny" / "tables" / "deaths.csv").exists()


@pytest.mark.parametrize(
    "word", ["confirm", "status", "analyse", "ui", "train", "export", "oscillation"]
)
def test_the_commands_exist(word: str) -> None:
    assert f"dynloss {word}" in README
    assert dynloss_here(word, "--help").returncode == 0


def test_the_figures_are_there() -> None:
    for path in re.findall(r"\]\((studies/[^)]+)\)", README):
        assert (Path(__file__).parents[2] / path).is_file(), path
