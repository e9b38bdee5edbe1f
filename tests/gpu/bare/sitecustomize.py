"""On PYTHONPATH, this hides the packages that a machine with nothing but PyTorch may lack."""

from __future__ import annotations

import sys

HIDDEN = (
    "mlflow", "optuna", "pydantic", "pytest_timeout", "ray", "rich", "sqlalchemy", "statsmodels",
    "torchvision", "typer", "xdist", "yaml",
)  # fmt: skip

sys.modules.update(dict.fromkeys(HIDDEN))  # type: ignore[arg-type]  # None: importing it fails
