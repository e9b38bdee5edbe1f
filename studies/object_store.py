"""Objects, read and written whole: on a disk, or in an object store.

This is all that the suite knows of S3, Google Cloud Storage and the like. An object has a name,
such as `parts/search-static-00000.members.parquet`, and a reader sees all of it or nothing.
Whatever goes wrong is an `OSError`.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from uuid import uuid4

from dynloss_core.atomic import PART, write_atomically
from dynloss_core.config import ConfigError, reason_of
from studies.definition.optional_packages import require

__all__ = ["FsspecStore", "LocalDisk", "ObjectStore", "opened"]

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}  # by `create`
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,  # others write too
        "config_kwargs": {"connect_timeout": 10, "read_timeout": 30},  # seconds
    },
    "gs": {"use_listings_cache": False},
    "memory": {},
}


class ObjectStore(Protocol):
    """Objects by name. It can be pickled, so that workers have it too."""

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            FileNotFoundError: if there is none of that name.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in the place of an older one."""

    def create(self, name: str, content: bytes) -> None:
        """Write an object that is new: of several writers at once, one succeeds.

        Raises:
            FileExistsError: if there is one of that name.
        """

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""

    def list(self, prefix: str = "") -> dict[str, str]:
        """The names that begin with a prefix, each with text that changes when it is written."""

    def delete(self, name: str) -> None:
        """Delete an object, if there is one."""


@dataclass(frozen=True)
class LocalDisk:
    """Objects as files of a folder.

    Args:
        folder: the folder; it need not exist.
    """

    folder: Path

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.folder / name, content)

    def create(self, name: str, content: bytes) -> None:
        path = self.folder / name
        whole = path.with_name(f"{path.name}.{uuid4().hex[:12]}.new{PART}")
        write_atomically(whole, content)
        try:
            os.link(whole, path)  # unlike a renamed file, a link replaces nothing
        finally:
            whole.unlink()

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def list(self, prefix: str = "") -> dict[str, str]:
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if name.startswith(prefix) and path.suffix != PART:
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    if path.is_file():
                        found[name] = f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}"
        return found

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class FsspecStore:
    """Objects of an object store, through fsspec. Credentials and endpoint are found where the
    store's own tools look for them.

    Args:
        address: `s3://bucket/x`; names continue it.
    """

    address: str

    def read(self, name: str) -> bytes:
        with self._filesystem() as (system, root):
            content: bytes = system.cat_file(f"{root}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:
        with self._filesystem() as (system, root):
            system.pipe_file(f"{root}/{name}", content)

    def create(self, name: str, content: bytes) -> None:
        try:
            with self._filesystem() as (system, root):
                system.pipe_file(f"{root}/{name}", content, mode="create")
        except FileExistsError:
            raise
        except OSError as error:
            if _code_of(error.__cause__) in _REFUSED:
                raise FileExistsError(errno.EEXIST, "exists", name) from error
            raise

    def exists(self, name: str) -> bool:
        with self._filesystem() as (system, root):
            return bool(system.isfile(f"{root}/{name}"))

    def list(self, prefix: str = "") -> dict[str, str]:
        folder = prefix.rpartition("/")[0]
        with self._filesystem() as (system, root):
            entries = system.find(f"{root}/{folder}".rstrip("/"), detail=True)
        names = {path[len(root) + 1 :]: _version(entry) for path, entry in entries.items()}
        return {name: v for name, v in names.items() if name.startswith(prefix) and _is_plain(name)}

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self._filesystem() as (system, root):
            system.rm_file(f"{root}/{name}")

    @contextmanager
    def _filesystem(self) -> Iterator[tuple[Any, str]]:
        """What fsspec has for the address, and the path there; its errors become `OSError`."""
        import fsspec

        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs what it raises, at length
        try:
            scheme = self.address.partition("://")[0]
            yield fsspec.core.url_to_fs(self.address, **_OPTIONS[scheme])
        except OSError:
            raise
        except Exception as error:  # botocore's, aiohttp's, Google's
            raise OSError(errno.EIO, reason_of(error), self.address) from error


def opened(address: str) -> FsspecStore:
    """The object store at an address.

    Raises:
        ConfigError: if the address is not one of a store, or what it needs is not installed.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in _PACKAGES:
        raise ConfigError("--out", f"{address} is not a store", "use s3://, gs:// or a folder")
    if not rest.partition("/")[0] or "@" in rest:
        remedy = f"give {scheme}://BUCKET/PREFIX; credentials belong in the environment"
        raise ConfigError("--out", f"{scheme}:// has no bucket, or names a user", remedy)
    require(_PACKAGES[scheme], "--out", f"{scheme}://", "use a folder")
    return FsspecStore(address)


def _code_of(error: BaseException | None) -> str:
    """The code with which a store answered, where botocore or gcsfs has it; else empty."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "code", ""))


def _version(entry: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash"):
        if entry.get(key):
            return str(entry[key])
    return f"{entry.get('created')}-{entry.get('size')}"


def _is_plain(name: str) -> bool:
    """Whether a name stays inside a folder that it is copied to; a store may hold any."""
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and parts[0] != "/" and "\\" not in name
