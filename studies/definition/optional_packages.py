"""Packages that only some parts of the suite need, and that may not be installed.

`pip install dynloss` brings the losses and the search spaces. The extra `studies` brings what a
study needs without a cluster; Ray, MLflow and Optuna are imported by the parts that use them.
"""

from __future__ import annotations

from importlib.util import find_spec

from dynloss_core.config import ConfigError

__all__ = ["MissingPackageError", "is_installed", "require"]

_EXTRAS = {
    "gcsfs": "gcs",
    "fsspec": "s3",
    "mlflow": "tracking",
    "optuna": "studies",
    "ray": "cluster",
    "s3fs": "s3",
}


class MissingPackageError(ConfigError):
    """Something needs a package that is not installed."""


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def require(package: str, key: str, user: str, otherwise: str) -> None:
    """Refuse what needs a package that is not installed.

    Args:
        package: the package: one of `_EXTRAS`.
        key: the entry of the study, or the option, that asks for it.
        user: what needs it.
        otherwise: what can be done without.

    Raises:
        MissingPackageError: if it is not installed.
    """
    if not is_installed(package):
        remedy = f"pip install 'dynloss[{_EXTRAS[package]}]', or {otherwise}"
        raise MissingPackageError(key, f"{user} needs {package}, which is not installed", remedy)
