"""Imports run one way: between the packages, between the folders of each, and inside a folder.

This is the page on architecture that cannot go stale: `LEVELS` is the order, lowest first. Imports
inside functions count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOREIGN = {  # what each package does without
    "dynloss_core": {"search_spaces", "studies", "ray", "optuna", "mlflow", "yaml", "pydantic"},
    "search_spaces": {"studies", "mlflow", "pydantic"},
    "studies": {"pydantic"},
}

CONTRACTS = "dynloss_core.testing"  # inherited by tests, and the only part that needs pytest
CHECKS = "studies.cli.check_command"  # runs them on a user's plug-in

LEVELS = {
    "dynloss_core": [
        "config", "own_command", "json_schema", "seeding", "keys", "atomic", "checkpoint", "oscillation",
        "losses", "data", "models", "plugin_definitions", "plugins", "compute", "landscape", "training", "testing", "command",
    ],
    "dynloss_core.landscape": [
        "refusals", "stability", "algorithms", "operators", "subset", "trackers", "valley",
        "curvature_samples", "period_doubling", "instabilities",
    ],
    "dynloss_core.training": [
        "problem", "optimisers", "saved_states", "tracing", "probes", "rate_follower", "engine", "engines", "choose_engine",
    ],
    "search_spaces": ["parameters", "space", "documents", "catalogue"],
    "studies": [
        "out_folder", "messages", "interrupts", "definition", "object_store", "blocks", "analysis", "search", "storage", "cluster", "report", "plain_script",
        "runner", "api", "cli", "__main__", "library",
    ],
    "studies.storage": [
        "write_errors", "lock", "lease", "sealed_files", "study_paths", "block_counts", "gathered_tables", "parts", "recorded_verdicts", "status_file", "mirror", "study_folder", "recorded_study",
        "begun", "stored_study", "recorded_looks", "recorded_winner", "place", "stored_plan", "origins", "reuse", "phase_counts", "status", "tracking",
    ],
    "studies.runner": [
        "library_log", "panel", "progress", "rounds", "extension", "parent_run", "session", "block_layout", "run_study", "until_decided", "dry_run", "single_run",
    ],
    "studies.analysis": [
        "card", "statistics", "looks", "question", "settings", "study_tables", "matched_rows", "search_health", "verdict_warnings",
        "setting_verdicts", "verdict_cards", "searches", "ladder", "search_card", "gains", "landscape",
        "study_analysis", "across_studies", "user_analyses", "figures", "analyses",
    ],
}  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name; a package by its own."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in FOREIGN
        for path in sorted((ROOT / package).rglob("*.py"))
    }


class WithoutTypes(ast.NodeTransformer):
    """Drops what is imported for annotations alone."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported(name: str, *, for_types: bool = True) -> Iterator[str]:
    """Dotted names that a module imports anywhere, functions included."""
    tree = ast.parse(modules()[name].read_text())
    for node in ast.walk(tree if for_types else WithoutTypes().visit(tree)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


@pytest.mark.parametrize("name", modules())
def test_a_module_does_without_what_its_package_does_without(name: str) -> None:
    packages = {each.partition(".")[0] for each in imported(name)}
    runs_tests = name.startswith(CONTRACTS) or name == CHECKS
    for_tests = {"pytest", "hypothesis"} - ({"pytest"} if runs_tests else set())
    assert not packages & (FOREIGN[name.partition(".")[0]] | for_tests)


def test_the_contracts_are_imported_by_tests_and_by_the_command_that_runs_them() -> None:
    for name in modules():
        if not name.startswith(CONTRACTS) and name != CHECKS:
            assert not any(each.startswith(CONTRACTS) for each in imported(name)), name


@pytest.mark.parametrize("folder", LEVELS)
def test_no_import_runs_up(folder: str) -> None:
    """Nor to a neighbour that nobody has given a level."""
    order, start = LEVELS[folder], len(folder) + 1
    for name in modules():
        if not name.startswith(f"{folder}."):
            continue
        own = name[start:].partition(".")[0]
        assert own in order, f"{name} has no level in LEVELS[{folder!r}]"
        for other in imported(name):
            if other.startswith(f"{folder}."):
                theirs = other[start:].partition(".")[0]
                assert order.index(theirs) <= order.index(own), f"{name} imports {other}"


def test_no_module_is_imported_in_a_circle() -> None:
    """Inside a folder either."""
    remaining = {
        name: set(imported(name, for_types=False)) & set(modules()) - {name} for name in modules()
    }
    while free := {name for name, needs in remaining.items() if not needs & set(remaining)}:
        remaining = {name: needs for name, needs in remaining.items() if name not in free}
    assert not remaining


def test_engines_do_not_import_each_other() -> None:
    folder = "dynloss_core.training.engines"
    engines = {"autograd", "stacked_mlp", "stacked_networks", "convnet", "fused_cpu", "fused_cuda"}
    for engine in engines:
        others = {f"{folder}.{other}" for other in engines - {engine}}
        assert not others & set(imported(f"{folder}.{engine}"))


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_core_runs_where_only_torch_and_numpy_are() -> None:
    statement = """
import sys
for name in ("ray", "optuna", "mlflow", "yaml", "pandas", "scipy", "sklearn", "torchvision", "numba", "llvmlite", "pytest"):
    sys.modules[name] = None
import dynloss_core
from dynloss_core.training import Member, Problem, Setup, choose_engine
problem = Problem(steps=2, static_tail=0)
assert list(choose_engine(problem)(Setup.build(problem, [Member(0.1, seed=0)])).evaluations())
"""
    assert "torch" in modules_after(statement)


def test_what_is_imported_on_first_use_is_listed() -> None:
    code = "import dynloss_core as d; print(set(d.__all__) <= set(dir(d)), d.DynamicalMSE)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "True <class 'dynloss_core.losses.modules.DynamicalMSE'>\n"


def test_a_space_alone_loads_neither_torch_nor_ray() -> None:
    loaded = modules_after("import search_spaces; search_spaces.load('spirals-mlp').sample(3)")
    assert not loaded & {"torch", "ray", "optuna", "mlflow", "pandas"}


def test_a_long_file_says_why() -> None:
    root = Path(__file__).parents[2]
    for package in ("dynloss_core", "search_spaces", "studies"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if len(text.splitlines()) > 350:
                assert "The file is long because" in (ast.get_docstring(ast.parse(text)) or ""), (
                    path
                )
