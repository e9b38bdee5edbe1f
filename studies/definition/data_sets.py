"""The data set of a study, provided before anything starts.

Only a driver provides: workers read what is there. Every machine of a cluster needs the data, in
the folder that the driver was given or in one of its own.
"""

from __future__ import annotations

from pathlib import Path

from dynloss_core.config import ConfigError
from dynloss_core.data import DataConfig, ImageConfig, use_data_folder

__all__ = ["provide"]


def provide(data: DataConfig, folder: Path | None = None, *, download: bool = False) -> None:
    """Say where image data lie, and fetch them if that is asked for and they are nowhere.

    Args:
        data: the data set.
        folder: to look into first, here and on workers; None leaves that to DYNLOSS_DATA_DIR.
        download: whether to fetch; a folder that is not there is made then.

    Raises:
        ConfigError: if `folder` is none, or the data cannot be fetched.
    """
    if folder is not None and not folder.is_dir() and not (download and not folder.exists()):
        raise ConfigError("--data-dir", f"{folder} is not a folder", "name the one that holds data")
    use_data_folder(folder)
    if download and isinstance(data, ImageConfig):
        data.download()
