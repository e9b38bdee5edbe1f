"""Where a result comes from: versions, hardware, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

__all__ = ["provenance", "version_of"]

_PACKAGES = (
    "dynloss",
    "torch",
    "torchvision",
    "numpy",
    "optuna",
    "ray",
    "mlflow",
    "pandas",
    "scikit-learn",
    "pillow",  # which decodes a user's images
)


def provenance() -> dict[str, str]:
    """Tags for the versions, hardware, date and commit of a result."""
    tags = {f"version.{name}": version_of(name) for name in _PACKAGES}
    tags["version.python"] = platform.python_version()
    tags["hardware.cpu"] = f"{_cpu_model()}, {os.cpu_count()} cores"
    tags["hardware.memory"] = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    tags["hardware.gpu"] = ", ".join(gpus) or "none"
    tags["os"] = f"{platform.system()} {platform.machine()}"
    tags["date"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    commit = _commit()
    if commit:
        tags["commit"] = commit
    return tags


def version_of(name: str) -> str:
    """The installed version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _commit() -> str | None:
    """The commit of the source, with `+changes` if the working tree differs; None outside git."""
    source = Path(__file__).parents[1]
    if not (source.parent / "pyproject.toml").exists():
        return None  # installed, not a checkout: a repository around it would be somebody else's
    command = ["git", "-C", str(source), "describe", "--always", "--dirty=+changes", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
