"""What a command imports, said by the interpreter: the process of a command leaves with the command's
exit code (see `dynloss_core.command`), whatever is asserted in it afterwards."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "pandas", "scipy", "sqlalchemy", "optuna", "mlflow", "ray"}


def imported_by(*words: str) -> tuple[set[str], str]:
    """The modules that `dynloss WORDS` imports, and what it prints."""
    command = [sys.executable, "-X", "importtime", "-m", "studies", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    modules = {line.rpartition("|")[2].strip() for line in lines}
    assert "studies.cli.app" in modules
    return modules, done.stdout
