"""The GPU kit: what a machine with an NVIDIA GPU shows of this project in eight minutes.

Tests against float64 on the CPU, then speeds. Results are written after each step to `gpu.json` in
the output folder, the output of all steps to `gpu.log`. It needs PyTorch and what the tests need,
none of Ray, Optuna and MLflow; see `tests/gpu/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynloss_core.atomic import write_atomically
from tests.gpu.processes import ROOT, StepResult, environment, run_side_by_side
from tests.gpu.steps import BUDGET, ON_CPU, ON_CUDA, Stage

__all__ = ["main", "run"]

_LINES = 8  # of a step that are shown
_WIDTH = 150


def run(
    stages: Sequence[Stage], extra: Sequence[str], folder: Path, record: dict[str, Any]
) -> list[StepResult]:
    """All stages within `BUDGET`, results in `gpu.json` after each step."""
    begun, outcomes = time.monotonic(), list[StepResult]()
    log = folder / "gpu.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for stage in stages:
            left = BUDGET - (time.monotonic() - begun)
            for outcome in run_side_by_side(stage, extra, left, Path(scratch)):
                outcomes.append(outcome)
                say(row(outcome), *(f"    {line}"[:_WIDTH] for line in outcome.lines[:_LINES]))
                if len(outcome.lines) > _LINES:
                    say(f"    and {len(outcome.lines) - _LINES} more in gpu.json")
                if outcome.tail and not outcome.lines:
                    say(*(f"    | {line}"[:_WIDTH] for line in outcome.tail.splitlines()[-3:]))
                record["seconds"] = time.monotonic() - begun
                record["steps"] = [asdict(one) for one in outcomes]
                write_atomically(folder / "gpu.json", json.dumps(record, indent=1) + "\n")
            with log.open("ab") as file:
                for output in sorted(Path(scratch).glob("*.log")):
                    file.write(f"==== {output.stem}\n".encode() + output.read_bytes() + b"\n")
                    output.unlink()
    return outcomes


def row(outcome: StepResult) -> str:
    """A line of the table."""
    return f"{outcome.status:<12} {outcome.seconds:6.1f} s  {outcome.name}"


def say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def machine() -> dict[str, Any]:
    """Where this runs, see `tests.gpu.machine`.

    Raises:
        SystemExit: where PyTorch is missing or does not see the GPU that the driver lists; 0 where
            there is no NVIDIA GPU at all.
    """
    command = [sys.executable, "-m", "tests.gpu.machine"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    listed = shutil.which("nvidia-smi") is not None
    if done.returncode:
        if not listed:
            say("There is no NVIDIA GPU here: nothing was run.")
            raise SystemExit(0)
        say("The GPU kit needs PyTorch; it could not be asked about the GPU:", done.stderr[-600:])
        raise SystemExit(1)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, help="folder; $OUT, or gpu-results")
    parser.add_argument("--cpu", action="store_true", help="every program on the CPU, tiny")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no step outlives the kit
    folder = Path(arguments.out or os.environ.get("OUT") or "gpu-results")
    here = machine()
    if not arguments.cpu and here["card"] is None:
        if here["card.listed"] is None:
            say("There is no NVIDIA GPU here: nothing was run.")
            raise SystemExit(0)
        say(
            f"PyTorch {here['version.torch']} does not see {here['card.listed']}: check the driver."
        )
        raise SystemExit(1)
    device = "cpu" if arguments.cpu else "cuda"
    folder.mkdir(parents=True, exist_ok=True)
    say(
        f"{here['card'] or here['hardware.cpu']}, driver {here['driver']}, CUDA {here['cuda']}, "
        f"torch {here['version.torch']}, Triton {here['version.triton']}, "
        f"Python {here['version.python']}"
    )
    record = {"device": device, "budget_seconds": BUDGET, "machine": here}
    stages, extra = (ON_CUDA, []) if device == "cuda" else (ON_CPU, ["--device=cpu", "--tiny"])
    outcomes = run(stages, extra, folder, record)
    say("", *(f"{row(one):<45}  {' '.join(one.lines[:1])}"[:_WIDTH] for one in outcomes))
    say(f"{record['seconds']:.0f} s of {BUDGET:.0f}; results: {folder / 'gpu.json'}")
    bad = [one.name for one in outcomes if one.status in ("failed", "out of time")]
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
