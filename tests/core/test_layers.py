"""Imports run one way: dynloss_core <- search_spaces <- studies."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORBIDDEN = {
    "dynloss_core": {"search_spaces", "studies", "ray", "optuna", "mlflow", "yaml", "pydantic"},
    "search_spaces": {"studies", "mlflow", "pydantic"},
    "studies": {"pydantic"},
}
FILES = [(layer, path) for layer in FORBIDDEN for path in sorted((ROOT / layer).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level packages a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("layer", "path"), FILES, ids=[str(path.relative_to(ROOT)) for _, path in FILES]
)
def test_a_layer_imports_only_what_lies_below_it(layer: str, path: Path) -> None:
    assert not imported(path) & FORBIDDEN[layer]


def test_engines_import_neither_the_chooser_nor_each_other() -> None:
    training = ROOT / "dynloss_core" / "training"
    engines = {"autograd", "batched", "vmapped", "convnet", "fused_cpu", "fused_cuda"}
    for engine in engines:
        text = (training / f"{engine}.py").read_text()
        for other in (engines - {engine}) | {"choice"}:
            assert f"dynloss_core.training.{other} " not in text


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_core_runs_where_only_torch_and_numpy_are() -> None:
    statement = """
import sys
for name in ("ray", "optuna", "mlflow", "yaml", "pandas", "scipy", "sklearn", "torchvision", "numba", "llvmlite"):
    sys.modules[name] = None
import dynloss_core
from dynloss_core.training import Member, Problem, Setup, choose_engine
problem = Problem(steps=2, static_tail=0)
assert list(choose_engine(problem)(Setup.build(problem, [Member(0.1, seed=0)])).evaluations())
"""
    assert "torch" in modules_after(statement)


def test_a_space_alone_loads_neither_torch_nor_ray() -> None:
    loaded = modules_after("import search_spaces; search_spaces.load('spirals-mlp').sample(3)")
    assert not loaded & {"torch", "ray", "optuna", "mlflow", "pandas"}
