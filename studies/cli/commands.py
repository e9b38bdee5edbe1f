"""Where the command `dynloss` starts, once it is known that nothing shadows the suite.

Commands are thin: they read arguments, call the suite, and print. Slow imports are inside them, so
that `--help` answers at once.
"""

from __future__ import annotations

import sys

from dynloss_core.config import ConfigError
from studies.cli import (
    catalogue_commands,
    check_command,
    export_command,
    init_command,
    oscillation_command,
    run_commands,
    study_commands,
    train_command,
)
from studies.cli.app import INTERRUPTED, USAGE_ERROR, app
from studies.interrupts import ends_as_interrupts
from studies.messages import replace_what_cannot_be_shown, say

__all__ = ["EXTRA_MODULES", "main"]

COMMANDS = (
    run_commands,
    study_commands,
    catalogue_commands,
    train_command,
    export_command,
    init_command,
    check_command,
    oscillation_command,
)
"""The modules whose import adds the commands."""

EXTRA_MODULES = {
    "jinja2",
    "matplotlib",
    "numba",
    "optuna",
    "pandas",
    "psutil",
    "pyarrow",
    "sklearn",
    "sqlalchemy",
    "statsmodels",
    "torchvision",
}
"""What the extra `studies` installs, by the names that are imported."""


def main() -> None:
    """Entry point: a refusal is one line and exit code 2, never a traceback."""
    replace_what_cannot_be_shown()
    try:
        with ends_as_interrupts():
            app()
    except ConfigError as error:
        say(f"dynloss: {error}", whole=True)
        sys.exit(USAGE_ERROR)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in EXTRA_MODULES:
            raise
        remedy = "pip install 'dynloss[studies]', or dynloss[all] for Ray and MLflow too"
        say(f"dynloss: this command needs {name}, which is not installed; {remedy}", whole=True)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        say("dynloss: interrupted")
        sys.exit(INTERRUPTED)
