"""Steps as processes: side by side, each with its limit, and what came of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from tests.gpu.steps import Step

__all__ = ["ROOT", "StepResult", "environment", "run_side_by_side"]

ROOT = Path(__file__).parents[2]

Status = Literal["passed", "failed", "out of time", "left out"]

_MIN_SECONDS = 15.0  # seconds that a step is worth starting with
_GRACE = 8.0  # that a step has to write what it knows, once it was told to stop
_TAIL = 4_000  # characters of a failed step's output


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Args:
        name: of the step.
        status: `left out` if no time was left to start it.
        seconds: that it took.
        limit: that it had.
        returncode: of its process.
        lines: for whoever watches.
        results: counts and failures of tests, or figures.
        tail: of the output of a step that did not pass.
    """

    name: str
    status: Status
    seconds: float = 0.0
    limit: float = 0.0
    returncode: int | None = None
    lines: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    tail: str = ""


@dataclass
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    results: Path
    output: Path
    begun: float
    limit: float
    stopped: bool = False


def run_side_by_side(
    steps: Sequence[Step], extra: Sequence[str], left: float, folder: Path
) -> Iterator[StepResult]:
    """Run the steps at the same time, and give each one's outcome once it has ended or was stopped.

    Args:
        steps: of one stage.
        extra: arguments for those that measure.
        left: seconds until everything has to be over.
        folder: for what they write.
    """
    left -= _GRACE
    if left < _MIN_SECONDS:
        yield from (StepResult(step.name, "left out") for step in steps)
        return
    running = [_start(step, extra, min(step.limit, left), folder) for step in steps]
    try:
        while running:
            for one in list(running):
                late = time.monotonic() - one.begun - one.limit
                if one.process.poll() is not None:
                    running.remove(one)
                    yield _outcome(one)
                elif late > _GRACE:
                    _signal(one, signal.SIGKILL)
                elif late > 0 and not one.stopped:
                    one.stopped = True
                    _signal(one, signal.SIGINT)  # pytest then reports what it has seen
            time.sleep(0.05)
    finally:
        for one in running:
            _signal(one, signal.SIGKILL)
            one.process.wait()


def _start(step: Step, extra: Sequence[str], limit: float, folder: Path) -> _Running:
    name = step.name.replace(" ", "-")
    output = folder / f"{name}.log"
    if step.tests:
        results = folder / f"{name}.xml"
        own = [
            "-c",
            "tests/gpu/plain.ini",
            "--rootdir=.",
            "--confcutdir=.",
            f"--junitxml={results}",
        ]
    else:
        results = folder / f"{name}.json"
        own = [f"--figures={results}", *extra]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", step.module, *step.arguments, *own],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a step is stopped with all that it started
        )
    return _Running(step, process, results, output, time.monotonic(), limit)


def environment() -> dict[str, str]:
    """Ours, with this checkout first, and without pytest's plugins, which may be others there."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **own}


def _signal(one: _Running, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(one.process.pid, number)


def _outcome(one: _Running) -> StepResult:
    seconds, code = time.monotonic() - one.begun, one.process.returncode
    lines, results = _test_results(one.results) if one.step.tests else _figure_results(one.results)
    status: Status = "passed" if code == 0 else "failed"
    tail = "" if code == 0 else one.output.read_text(errors="replace")[-_TAIL:]
    if one.stopped and code != 0:
        status = "out of time"
    return StepResult(one.step.name, status, seconds, one.limit, code, lines, results, tail)


def _figure_results(path: Path) -> tuple[list[str], dict[str, Any]]:
    if not path.exists():
        return [], {}
    content = json.loads(path.read_text())
    return content["lines"], content["figures"]


def _test_results(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Counts, and the failures with the first line of why."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return ["no report of the tests"], {}
    failures, skipped = {}, 0
    for case in cases:
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        for bad in (*case.findall("failure"), *case.findall("error")):
            said = (bad.get("message") or bad.text or "").strip()
            failures[name] = said[:1_000]
        skipped += case.find("skipped") is not None
    passed = len(cases) - len(failures) - skipped
    lines = [f"{passed} passed, {len(failures)} failed, {skipped} skipped"]
    lines += [f"{name}: {said.splitlines()[0] if said else ''}" for name, said in failures.items()]
    counts = {"passed": passed, "failed": len(failures), "skipped": skipped}
    return lines, {**counts, "failures": failures}
