"""The command `dynloss` as tests type it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from studies.cli.commands import main
from tests.services import SECONDS


def command(*arguments: object) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "studies", *map(str, arguments)]


def dynloss(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, to its end, with environment variables of its own."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **variables},
    )


def dynloss_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: for what starts no cluster, without waiting for imports."""
    out, err = io.StringIO(), io.StringIO()
    typed = ["dynloss", *map(str, arguments)]
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", typed):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    returncode = code if isinstance(code, int) else 0 if code is None else 1
    return subprocess.CompletedProcess(typed, returncode, out.getvalue(), err.getvalue())


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start the command in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
