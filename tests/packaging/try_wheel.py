"""`make dist` tries the wheel in environments of its own, from a folder that is not the checkout.

    python tests/packaging/try_wheel.py WHEEL --torch torch --packages-of .venv

The first environment is empty: what `pip install dynloss` brings is enough for the losses, the
spaces and the commands on them. The second has the packages of another environment and the wheel
instead of its dynloss: a study that `dynloss init` wrote runs to its report.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SMALL = (
    "backend=inline",
    "storage.tracker=none",
    "budget.total=40",
    "budget.static_tail=10",
    "budget.evaluate_every=20",
    "trials_per_arm=2",
    "seeds_per_point=1",
    "confirm_seeds=2",
)
LOSS = """
import pathlib, sys, torch, dynloss_core, search_spaces
from dynloss_core import DynamicalCrossEntropy
DynamicalCrossEntropy(3, 10, 5.0)(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
assert search_spaces.load("spirals-mlp").sample(4, 0)
for package in (dynloss_core, search_spaces):
    assert pathlib.Path(package.__file__).is_relative_to(sys.prefix), package.__file__
print(dynloss_core.__version__)
"""


class Environment:
    """A virtual environment in a folder, and programs run there from an empty folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "environment"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)

    def run(self, *words: str | Path, exits: int = 0) -> str:
        """What a program of the environment writes; it must end with this code."""
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [self.folder / "bin" / words[0], *words[1:]]
        done = subprocess.run(
            command, cwd=self.work, env=environ, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        if done.returncode != exits:
            sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{said}")
        return said

    def install(self, *what: str | Path) -> None:
        self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what)


def try_light(environment: Environment, wheel: Path, torch: str) -> None:
    environment.install(torch, wheel)
    version = environment.run("python", "-c", LOSS).strip()
    assert wheel.name.startswith(f"dynloss-{version}-")
    assert environment.run("dynloss", "--version") == f"dynloss {version}\n"
    assert "Usage: dynloss" in environment.run("dynloss", "--help")
    assert "spirals-mlp" in environment.run("dynloss", "space", "list")
    refused = environment.run("dynloss", "run", "quickstart", exits=2)
    assert "pip install 'dynloss[studies]'" in refused
    assert refused.count("\n") == 1


def try_studies(environment: Environment, wheel: Path, packages: Path) -> None:
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment.folder)}))
    (site / "packages.pth").write_text(f"{packages}\n")
    environment.install("--no-deps", wheel)
    environment.run("python", "-c", LOSS)
    environment.run("dynloss", "init", "mine")
    changes = [word for change in SMALL for word in ("--set", change)]
    environment.run("dynloss", "run", "mine/my_study.yaml", "--out", "results", *changes)
    (report,) = environment.work.glob("results/*/report.html")
    assert report.stat().st_size > 100_000
    said = environment.run("dynloss", "status", "my-study", "--out", "results")
    assert "100% of its networks trained" in said


def main() -> None:
    parser = argparse.ArgumentParser(description="Try a wheel of dynloss.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "--torch", default="torch", help="requirement of PyTorch, such as of a build for CPUs"
    )
    parser.add_argument(
        "--packages-of", type=Path, required=True, help="an environment with dynloss[studies]"
    )
    given = parser.parse_args()
    packages = subprocess.run(
        [given.packages_of / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    wheel = given.wheel.resolve()
    with tempfile.TemporaryDirectory() as folder:
        try_light(Environment(Path(folder, "light")), wheel, given.torch)
        sys.stdout.write("the wheel alone: losses, spaces and the commands on them work\n")
        packages_in = Path(packages.stdout.strip())
        try_studies(Environment(Path(folder, "studies")), wheel, packages_in)
        sys.stdout.write("with the packages of a study: a study runs to its report\n")


if __name__ == "__main__":
    main()
