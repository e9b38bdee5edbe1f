"""Image data sets on this machine: found, unpacked if needed, and checked.

Folders are read in torchvision's layout. A folder that holds only the archives is never written to:
they are unpacked into the user's cache. Nothing here imports torchvision.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynloss_core.config import ConfigError

__all__ = [
    "DATA_FOLDER",
    "Layout",
    "cache_folder",
    "chosen_folder",
    "data_folders",
    "find",
    "put_in_place",
    "use_data_folder",
]

DATA_FOLDER = "DYNLOSS_DATA_DIR"
"""The environment variable that names a folder of data sets. It is not part of a configuration: the
location of data changes no result, and must not change a study's hash."""

SYSTEM_FOLDER = Path("/usr/share/datasets")  # where Debian puts data sets

Unpack = Callable[[Path, Path], object]


@dataclass(frozen=True)
class Layout:
    """The layout of a data set in a folder.

    Args:
        name: the name of the data set in a configuration.
        folder: the folder that torchvision looks for.
        files: checksums (MD5) by path, relative to the folder of data sets.
        archives: the archives that hold these files.
        archived_in: subfolders in which the archives may be.
        unpacks_into: where torchvision unpacks the archives.
        package: the Debian package that installs it, if there is one.
    """

    name: str
    folder: str
    files: Mapping[str, str]
    archives: tuple[str, ...]
    archived_in: tuple[str, ...] = ("",)
    unpacks_into: str = ""
    package: str | None = None

    def is_in(self, folder: Path) -> bool:
        """Whether all files are there, unpacked; their content is not checked."""
        return all((folder / path).is_file() for path in self.files)

    def archives_in(self, folder: Path) -> list[Path]:
        """All archives, in the first subfolder that has them; empty if none does."""
        for place in self.archived_in:
            paths = [folder / place / archive for archive in self.archives]
            if all(path.is_file() for path in paths):
                return paths
        return []

    def damaged_in(self, folder: Path) -> list[Path]:
        """Files whose content is not what it should be."""
        return [folder / path for path, md5 in self.files.items() if _md5(folder / path) != md5]


def use_data_folder(folder: str | Path | None) -> None:
    """Look in `folder` first, in this process and in those it starts; None changes nothing.

    The path is made absolute: workers have another working directory.
    """
    folder = folder or chosen_folder()
    if folder:
        os.environ[DATA_FOLDER] = str(Path(folder).expanduser().absolute())


def chosen_folder() -> str | None:
    """The folder that `use_data_folder` or the environment names."""
    return os.environ.get(DATA_FOLDER) or None


def cache_folder() -> Path:
    """The user's cache folder, for unpacked archives and downloads.

    Raises:
        ConfigError: if the user has no home folder.
    """
    parent = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(parent) if parent else Path.home() / ".cache") / "dynloss"
    except RuntimeError:
        remedy = "set XDG_CACHE_HOME to a folder of your own"
        raise ConfigError("", "there is no home folder to hold a cache", remedy) from None


def data_folders() -> list[Path]:
    """The folders searched for data sets, in order."""
    chosen = chosen_folder()
    return [*([Path(chosen)] if chosen else []), cache_folder(), SYSTEM_FOLDER]


def find(layout: Layout, unpack: Unpack) -> Path:
    """The folder from which torchvision can read a data set, after checking its files.

    Args:
        layout: the layout of the data set.
        unpack: unpacks an archive into a folder.

    Raises:
        ConfigError: if it is not found, or is damaged.
    """
    folders = data_folders()
    for folder in folders:
        if layout.is_in(folder):
            return _checked(layout, folder)
        archives = layout.archives_in(folder)
        if archives:
            return _checked(layout, _unpacked(layout, archives, unpack))
    looked = ", ".join(map(str, folders))
    remedy = f"online, add --download; offline, put {layout.folder}/ or {layout.archives[0]}"
    remedy += " (and the others like it)" if len(layout.archives) > 1 else ""
    remedy += " into one of them, or name another folder with --data-dir"
    remedy += f", or apt install {layout.package}" if layout.package else ""
    raise ConfigError("data.name", f"{layout.name} is in none of {looked}", remedy)


def put_in_place(parent: Path, name: str, fill: Callable[[Path], object]) -> None:
    """Make the folder `parent/name` as a whole or not at all.

    `fill` makes `name` in a temporary folder beside it, which is then renamed. If several processes
    do so at once, the first to finish wins; what the others made is the same, and is dropped.

    Raises:
        OSError: if it cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}-") as making:
        fill(Path(making))
        try:
            (Path(making) / name).rename(parent / name)
        except OSError:
            if not (parent / name).is_dir():
                raise


def _unpacked(layout: Layout, archives: list[Path], unpack: Unpack) -> Path:
    """The cache folder, with the archives unpacked in it."""
    cache = cache_folder()
    if layout.is_in(cache):
        return cache

    def fill(making: Path) -> None:
        target = making / layout.unpacks_into
        target.mkdir(parents=True, exist_ok=True)
        for archive in archives:
            try:
                unpack(archive, target)
            except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
                raise _damaged(archive, str(error)) from None
        if not layout.is_in(making) or layout.damaged_in(making):
            raise _damaged(archives[0].parent, f"does not hold {layout.name} as published")

    try:
        put_in_place(cache, layout.folder, fill)
    except OSError as error:
        problem = f"{archives[0].parent} cannot be unpacked into {cache}: {error}"
        remedy = "set XDG_CACHE_HOME to a folder of your own with enough space"
        raise ConfigError("data.name", problem, remedy) from None
    return cache


def _checked(layout: Layout, folder: Path) -> Path:
    if not layout.is_in(folder):
        problem = f"{folder / layout.folder} is incomplete"
        raise ConfigError("data.name", problem, "remove it and try again")
    damaged = layout.damaged_in(folder)
    if damaged:
        raise _damaged(damaged[0], f"is not the file published with {layout.name}")
    return folder


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        "data.name", f"{path} is damaged: {reason}", "remove it and download it again"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
