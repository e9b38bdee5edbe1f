"""The examples of README and documentation, taken from there and run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import optuna
import pytest
import torch
import yaml

import search_spaces
import studies
from dynloss_core import keys
from studies.blocks.block import Block, Trial
from studies.blocks.block_run import BlockRun
from studies.definition.schemas import schema_text
from studies.definition.study_files import load_study
from tests.pages import PAGES, block_of, blocks, commands_in, every_block
from tests.studies.commands import dynloss_here
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import tiny_document, tiny_study

SCHEMAS = [json.loads(schema_text(kind)) for kind in ("study", "space")]


def whole_file(name: str, language: str = "python") -> str:
    """A file that a page shows: its first line is a comment with its name."""
    text = block_of(language, f"# {name}\n")
    assert text.startswith(f"# {name}\n")
    return text


def prepared(model: torch.nn.Module) -> dict[str, Any]:
    """What a training loop has before the loss comes in."""
    return {
        "logits": model(torch.randn(8, 4)),
        "targets": torch.randint(10, (8,)),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }


def test_the_space_loads(tmp_path: Path) -> None:
    text = block_of("yaml", "extends: dynloss-base")
    (tmp_path / "space.yaml").write_text(text)
    space = search_spaces.load(tmp_path / "space.yaml")
    assert space.searched() == ["period", "amplitude", "learning_rate", "model.width"]
    assert space.points


def test_the_study_loads_and_is_the_quickstart_but_for_its_name(tmp_path: Path) -> None:
    text = block_of("yaml", "mode: optimize")
    (tmp_path / "study.yaml").write_text(text)
    study = load_study(tmp_path / "study.yaml")
    assert study.members() == load_study("quickstart").members()
    overrides = re.findall(r"`--set ([^`]+\.[^`]+)`", "".join(PAGES.values()))
    assert overrides
    for override in overrides:
        load_study(tmp_path / "study.yaml", [override])


@pytest.mark.parametrize("name", ["my_map.yaml", "my_steps.yaml"])
def test_the_studies_of_the_tutorials_load(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(whole_file(name, "yaml"))
    assert load_study(tmp_path / name).members() == {"my_map.yaml": 408, "my_steps.yaml": 4}[name]


@pytest.mark.parametrize(("page", "text"), every_block("yaml"))
def test_every_key_of_a_fragment_is_one_of_a_study_or_a_space(page: str, text: str) -> None:
    """By the schemas, which know the form of a file; names of a plug-in's own they do not know."""
    document = yaml.safe_load(text)
    if "plugins" in document:
        document = {key: value for key, value in document.items() if key not in ("model", "data")}
    valid = [
        jsonschema.Draft202012Validator({**schema, "required": []}).is_valid(document)
        for schema in SCHEMAS
    ]
    assert any(valid), (page, text)


def test_the_loss_and_the_space_in_three_lines() -> None:
    loss_example, groups_example = blocks("docs/how-to/use-the-loss.md", "python")
    (space_example,) = blocks("docs/how-to/use-a-space.md", "python")
    names = prepared(torch.nn.Linear(4, 10))
    exec(loss_example, names)
    assert names["criterion"].current_step == 1
    exec(groups_example, names | {"all_targets": torch.arange(50) % 10, "batch": torch.arange(8)})
    study = optuna.create_study()
    lines = [line for line in space_example.splitlines() if not line.startswith("tuner")]
    names = {"trial": study.ask()}
    exec("\n".join(lines), names)
    assert len(names["points"]) == 8 * 8 * 3  # type: ignore[arg-type]
    assert names["space"].to_ray()  # type: ignore[attr-defined]


def test_the_loss_and_the_shape_of_a_plugin_keep_their_contracts(tmp_path: Path) -> None:
    text = block_of("py", "LOSSES")
    (tmp_path / "own.py").write_text(text)
    done = dynloss_here("check", tmp_path / "own.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loss entropy" in done.stdout
    assert "shape peak" in done.stdout


def test_the_data_set_of_a_plugin_keeps_its_contract(tmp_path: Path) -> None:
    text = block_of("py", "splits_of")
    (tmp_path / "fakes.py").write_text(text)
    done = dynloss_here("check", tmp_path / "fakes.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "data set fakes" in done.stdout


def test_a_study_runs_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, but for a budget that tests can spend."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))
    small = {
        "budget": {"total": 40, "static_tail": 10, "evaluate_every": 20},
        "trials_per_arm": 4,
        "storage": {"tracker": "none"},
    }
    whole = studies.load
    monkeypatch.setattr(studies, "load", lambda name: whole(name).with_(**small), raising=False)
    names: dict[str, Any] = {}
    (text,) = blocks("docs/how-to/from-python.md", "python")
    exec(text, names)
    assert names["result"].finished
    assert names["result"].folder == tmp_path / "results" / "narrow"


def test_the_plugin_trains(tmp_path: Path) -> None:
    """Written to a file as it stands, named as the tutorial says, and trained by an engine."""
    (tmp_path / "nets.py").write_text(whole_file("nets.py"))
    named = yaml.safe_load(block_of("yaml", "plugins: [./nets.py]"))
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
    (tmp_path / "deaths.py").write_text(whole_file("deaths.py"))
    session = session_of(tiny_study(), tmp_path)
    finish(session)
    session.delivery.close()
    done = dynloss_here("analyse", "tiny", "--out", tmp_path, "--analysis", tmp_path / "deaths.py")
    assert done.returncode == 0, done.stderr
    assert "Networks at chance" in (tmp_path / "tiny" / "report.html").read_text()
    assert (tmp_path / "tiny" / "tables" / "deaths.csv").exists()


def test_the_own_data_set_loads(tmp_path: Path) -> None:
    """That which `dynloss init` writes, named as the tutorial says."""
    assert dynloss_here("init", tmp_path / "mine", "--data").returncode == 0
    named = yaml.safe_load(block_of("yaml", "plugins: [./my_data.py]"))
    document = tiny_document(**named)
    (tmp_path / "mine" / "study.yaml").write_text(yaml.safe_dump(document))
    data = load_study(tmp_path / "mine" / "study.yaml").data
    assert len(data.load(0).train) == 200


def test_the_tutorials_say_how_many_networks_are_trained(tmp_path: Path) -> None:
    assert dynloss_here("init", tmp_path / "mine").returncode == 0
    first = load_study(tmp_path / "mine" / "my_study.yaml")
    assert f"{first.members()}\nnetworks" in PAGES["docs/tutorials/first-study.md"]
    (line,) = [
        typed
        for typed, whole in commands_in(PAGES["docs/tutorials/your-network.md"])
        if whole and "small-net" in typed
    ]
    (tmp_path / "nets.py").write_text(whole_file("nets.py"))
    changes = re.findall(r"--set (\S+)", line)
    small = load_study("quickstart", changes, None, [tmp_path / "nets.py"])
    assert f"{small.members()} networks" in PAGES["docs/tutorials/your-network.md"]


def test_the_doors_of_the_readme_open(tmp_path: Path) -> None:
    """The loss, a space and a study, each as the README has it."""
    loss_example, space_example = blocks("README.md", "python")
    (text,) = blocks("README.md", "yaml")
    names = prepared(torch.nn.Linear(4, 10))
    exec(loss_example, names)
    assert names["criterion"].current_step == 1
    names = {"trial": optuna.create_study().ask()}
    exec(space_example, names)
    assert 500 <= names["params"]["period"] <= 2000
    assert set(names["domain"]) >= {"period", "amplitude", "learning_rate"}
    (tmp_path / "my_study.yaml").write_text(text)
    assert load_study(tmp_path / "my_study.yaml").trials_of("dynamical").count == 20
