"""What the kit ran on: card, driver, versions, commit, date. JSON on standard output.

It is a program of its own, so that the one that starts it never holds a part of the GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from studies.blocks.provenance import provenance, version_of

__all__ = ["machine"]


def machine() -> dict[str, str | None]:
    """Tags by name; `card` is None where torch sees no NVIDIA GPU."""
    card = memory = None
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        card, memory = found.name, f"{found.total_memory / 2**30:.0f} GiB"
    own = {f"version.{name}": version_of(name) for name in ("triton", "numba", "scipy", "pytest")}
    return {
        "card": card,
        "card.memory": memory,
        "card.listed": _listed("name"),
        "driver": _listed("driver_version"),
        "cuda": torch.version.cuda,
        **provenance(),
        **own,
    }


def _listed(query: str) -> str | None:
    """What the driver says of its first card; None where there is no driver."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), "").strip() or None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(machine()) + "\n")
