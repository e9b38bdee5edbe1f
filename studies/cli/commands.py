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

__all__ = ["main"]

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


def main() -> None:
    """Entry point: a refusal is one line and exit code 2, never a traceback."""
    replace_what_cannot_be_shown()
    try:
        with ends_as_interrupts():
            app()
    except ConfigError as error:
        say(f"dynloss: {error}")
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        say("dynloss: interrupted")
        sys.exit(INTERRUPTED)
