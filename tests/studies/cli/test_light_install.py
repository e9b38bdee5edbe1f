"""What works where only the light package is installed: losses, spaces and the commands on them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from studies.cli.commands import EXTRA_MODULES

ROOT = Path(__file__).parents[3]
LIGHT = {"numpy", "pyyaml", "rich", "scipy", "torch", "typer"}
WITHOUT = """\
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
IMPORTED = {"pyyaml": "yaml", "scikit-learn": "sklearn"}


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["project"])


def names(requirements: list[str]) -> set[str]:
    found = {re.split(r"[\[<>=;]", each)[0] for each in requirements}
    return found - {"dynloss"}


def lightly(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where nothing but the light package's dependencies can be imported."""
    extras: dict[str, list[str]] = project()["optional-dependencies"]  # type: ignore[assignment]
    heavy = {IMPORTED.get(each, each) for extra in extras.values() for each in names(extra)}
    words = [sys.executable, "-c", WITHOUT.format(missing=heavy - LIGHT) + code]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_light_package_is_light() -> None:
    assert names(project()["dependencies"]) == LIGHT  # type: ignore[arg-type]


def test_the_losses_and_the_spaces_work() -> None:
    done = lightly(
        "import torch, search_spaces\n"
        "from dynloss_core import DynamicalCrossEntropy, Oscillation\n"
        "loss = DynamicalCrossEntropy(3, 10, 5.0, oscillation=Oscillation(shape='sine'))\n"
        "loss(torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0])).backward()\n"
        "space = search_spaces.load('spirals-mlp')\n"
        "print(len(space.sample(4, 0, method='sobol')), len(space.grid({'period': 2, "
        "'amplitude': 2, 'learning_rate': 2})), space.static().searched())"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["4", "8"]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """The command `dynloss`, as the light package has it."""
    return lightly(f"sys.argv[1:] = {list(words)}\nfrom dynloss_core.command import main; main()")


@pytest.mark.parametrize(
    ("words", "shows"), [("--help", "init"), ("space list", "spirals-mlp"), ("list", "quickstart")]
)
def test_the_commands_that_train_nothing_work(words: str, shows: str) -> None:
    done = command(*words.split())
    assert done.returncode == 0, done.stderr
    assert shows in done.stdout


@pytest.mark.parametrize("words", ["run quickstart", "status quickstart", "show quickstart"])
def test_a_command_says_what_it_needs(words: str) -> None:
    done = command(*words.split())
    assert done.returncode == 2
    assert re.fullmatch(
        r"dynloss: this command needs \w+, which is not installed; pip install 'dynloss\[studies\]'"
        r", or dynloss\[all\] for Ray and MLflow too\n",
        done.stderr,
    )


def test_the_packages_that_it_may_need_are_those_of_the_extra() -> None:
    extras: dict[str, list[str]] = project()["optional-dependencies"]  # type: ignore[assignment]
    assert {IMPORTED.get(name, name) for name in names(extras["studies"])} == EXTRA_MODULES
