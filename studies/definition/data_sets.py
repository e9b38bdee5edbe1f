"""The data set of a study, found or downloaded before anything starts.

Only a driver downloads; workers read what is there. Every machine of a cluster needs the data, in
the folder that the driver was given or in one of its own.
"""

from __future__ import annotations

from pathlib import Path

from dynloss_core.config import ConfigError
from dynloss_core.data import DataConfig, ImageConfig, use_data_folder

__all__ = ["ensure_data"]


def ensure_data(data: DataConfig, folder: Path | None = None, *, download: bool = False) -> None:
    """Set where image data are looked for, and download them if asked to and they are missing.

    Args:
        data: the data set.
        folder: the folder to search first, here and on workers; None leaves it to DYNLOSS_DATA_DIR.
        download: whether to download missing data, into a new folder if `folder` does not exist.

    Raises:
        ConfigError: if `folder` is not a folder, or the data cannot be downloaded.
    """
    if folder is not None and not folder.is_dir() and not (download and not folder.exists()):
        raise ConfigError("--data-dir", f"{folder} is not a folder", "name the one that holds data")
    use_data_folder(folder)
    if download and isinstance(data, ImageConfig):
        data.download()
