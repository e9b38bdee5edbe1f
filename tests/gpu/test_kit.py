"""The GPU kit itself: it stops what hangs, keeps what was found, and needs little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from dynloss_core.training import Member, Setup
from tests.benchmarks.images import Job, operations, problem_of
from tests.gpu import kit, phase_diagram, processes
from tests.gpu.processes import ROOT, environment, run_side_by_side
from tests.gpu.steps import ON_CPU, ON_CUDA, Step

MODULES = {
    "passes": "",
    "breaks": "raise RuntimeError('no kernel image')",
    "hangs": """
import json, pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
figures = pathlib.Path(sys.argv[1].partition("=")[2])
figures.write_text(json.dumps({"lines": ["half"], "figures": {"width": 20}}))
time.sleep(600)
""",
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(processes, "_GRACE", 0.5)


def test_a_step_that_fails_or_hangs_does_not_stop_the_next(
    modules: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = (
        (Step("broken", "breaks", (), 60), Step("hung", "hangs", (), 2)),
        (Step("good", "passes", (), 60),),
    )
    record: dict[str, Any] = {}
    outcomes = {one.name: one for one in kit.run(stages, [], tmp_path, record)}
    statuses = {name: one.status for name, one in outcomes.items()}
    assert statuses == {"broken": "failed", "hung": "out of time", "good": "passed"}
    assert outcomes["hung"].results == {"width": 20}
    assert 2 < outcomes["hung"].seconds < 30
    assert "no kernel image" in outcomes["broken"].tail
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert {step["name"]: step["status"] for step in kept["steps"]} == statuses
    assert "no kernel image" in (tmp_path / "gpu.log").read_text()
    said = capsys.readouterr().out
    assert "RuntimeError: no kernel image" in said
    assert len(said) < 1_000


def test_what_no_time_is_left_for_is_left_out(
    modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit, "BUDGET", 5.0)
    (outcome,) = kit.run([(Step("good", "passes", (), 60),)], [], tmp_path, {})
    assert outcome.status == "left out"


def test_failing_tests_are_named(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text("def test_good(): pass\ndef test_bad(): assert 1 == 2, 'far off'\n")
    step = Step("some", "pytest", (str(file),), 60)
    (outcome,) = run_side_by_side([step], [], 90, tmp_path)
    assert outcome.status == "failed"
    assert (outcome.results["passed"], outcome.results["failed"]) == (1, 1)
    assert outcome.lines[0] == "1 passed, 1 failed, 0 skipped"
    assert "test_bad: AssertionError: far off" in outcome.lines[1]


@pytest.mark.parametrize(("listed", "code"), [(None, 0), ("NVIDIA H100", 1)])
def test_without_a_gpu_it_says_so(
    listed: str | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = {"card": None, "card.listed": listed, "version.torch": "2.11.0"}
    monkeypatch.setattr(kit, "machine", lambda: here)
    monkeypatch.setattr(sys, "argv", ["run.sh"])
    with pytest.raises(SystemExit) as ended:
        kit.main()
    assert ended.value.code == code
    assert ("does not see NVIDIA H100" if code else "no NVIDIA GPU") in capsys.readouterr().out


def test_it_needs_neither_ray_nor_optuna_nor_mlflow() -> None:
    """Every program is imported and every test collected with them hidden."""
    steps = [step for stage in (*ON_CUDA, *ON_CPU) for step in stage]
    programs = sorted({step.module for step in steps if not step.tests} | {"tests.gpu.machine"})
    files = {name for step in steps for name in step.arguments if name.startswith("tests/")}
    ini = ["-c", "tests/gpu/plain.ini", "--rootdir=.", "--confcutdir=.", "--collect-only", "-qq"]
    code = f"""
import {", ".join(programs)}, pytest, sys
hidden = [name for name in ("ray", "optuna", "mlflow", "torchvision", "yaml") if name in sys.modules]
assert all(sys.modules[name] is None for name in hidden) and len(hidden) == 5
sys.exit(pytest.main({ini + sorted(files)!r}))
"""
    own = environment()
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests/gpu/bare"), str(ROOT)])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_phase_diagram_is_that_of_the_study() -> None:
    study = yaml.safe_load((ROOT / "studies/library/spirals_phase_diagram.yaml").read_text())
    problem, ensemble = phase_diagram.PROBLEM, phase_diagram.members()
    budget, grid, space = study["budget"], study["grid"], study["space"]["parameters"]
    assert problem.steps == budget["total"]
    assert problem.static_tail == budget["static_tail"]
    assert problem.evaluate_every == budget["evaluate_every"]
    assert problem.model.width == study["model"]["width"]
    points = grid["period"] * grid["amplitude"] + grid["learning_rate"]
    assert len(ensemble) == points * phase_diagram.SEEDS == 4_130
    assert study["seeds_per_point"] == 2 * phase_diagram.SEEDS, "half of its seeds, unrefined"
    for name in ("period", "amplitude"):
        found = [getattr(member, name) for member in ensemble if member.period is not None]
        assert [min(found), max(found)] == [space[name]["low"], pytest.approx(space[name]["high"])]
        assert len(set(found)) == grid[name]


@pytest.mark.parametrize("model", ["myrtle5-64", "wrn-16-4"])
def test_operations_are_counted_from_the_shapes_of_the_layers(model: str) -> None:
    setup = Setup.build(problem_of(Job("convnet", model, "cifar10", 2, 1, 2)), [Member(0.1, 0)])
    counts = []

    def count(layer: nn.Module, _: object, outputs: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        places = outputs[0, 0].numel()  # H W, or 1
        counts.append(2 * places * layer.weight.numel())

    network = setup.networks[0]
    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert operations(setup) == 3 * sum(counts) - counts[0]
