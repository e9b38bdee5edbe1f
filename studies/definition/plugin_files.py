"""The plug-ins of a study: named in its file, and kept in its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError, build, show, to_dict
from dynloss_core.plugins import Plugin, load_plugin, plugin_of, read_plugin, source_of
from studies.definition.installed_plugins import installed_plugins

__all__ = ["listed", "plugins_in", "with_plugins", "write_plugins"]

PLUGIN_FOLDER = "plugins"
"""Where a study's folder keeps the plug-ins that it was begun with."""


def listed(given: Any, source: str) -> Sequence[Any]:
    """The `plugins` of a document, if they are a list."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ConfigError("plugins", f"{show(given)} is no list", "write [./my.py]", source)
    return given


def plugins_in(given: Any, folder: Path, source: str, *, recorded: bool) -> list[Plugin]:
    """The plug-ins of a document, loaded: paths from its folder on, or, in a study that was begun,
    the files that it keeps."""
    read: list[Plugin] = []
    entries = listed(given, source)
    loaded = sum(isinstance(entry, Plugin) for entry in entries)  # in none of the file's lines
    for index, entry in enumerate(entries):
        key = f"plugins[{index - loaded}]"
        try:
            if recorded and isinstance(entry, str):
                remedy = "put back the study's own definition"
                raise ConfigError(key, f"{show(entry)} is a path in a study that was begun", remedy)
            plugin = _plugin(entry, folder, key)
        except ConfigError as error:
            raise error.inside(source=source) from None
        twin = next((earlier for earlier in read if earlier.file == plugin.file), None)
        if twin is not None:
            problem = f"a second file of the name {plugin.file!r}"
            raise ConfigError(key, problem, "give each another name", source)
        read.append(plugin)
    return read


def with_plugins(
    document: Mapping[str, Any], folder: Path, source: str, *, recorded: bool = False
) -> dict[str, Any]:
    """A study's document with all its plug-ins loaded: those that it names, those of objects that
    were made in Python, and those of installed packages that it needs.

    Args:
        document: the study, as in its file.
        folder: the folder that paths in it start from.
        source: the name that messages give it.
        recorded: whether it is of a study that was begun, which names all its plug-ins.

    Raises:
        ConfigError: if one cannot be read, or does not define what it should.
    """
    plain = _with_plain_parts(document)
    read = plugins_in(plain.get("plugins", []), folder, source, recorded=recorded)
    try:
        read += [] if recorded else installed_plugins(plain, read)
    except ConfigError as error:
        raise error.inside(source=source) from None
    return {**plain, "plugins": read} if read or "plugins" in plain else plain


def _with_plain_parts(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document whose network and data set are plain mappings, where they were objects of Python;
    the plug-ins that define their classes are among its own.

    Raises:
        ConfigError: if a class is in no file that could be one.
    """
    plain = dict(document)
    for key in ("data", "model"):
        given = plain.get(key)
        if not is_dataclass(given) or isinstance(given, type):
            continue
        try:
            plugin = plugin_of(given)
        except ConfigError as error:
            raise error.inside(key) from None
        plain[key] = to_dict(given)
        if plugin is not None:
            known = listed(plain.get("plugins") or [], "")
            plain["plugins"] = [
                *(entry for entry in known if not _belongs_to(entry, plugin)),
                plugin,
            ]
    return plain


def _belongs_to(entry: Any, plugin: Plugin) -> bool:
    """Whether an entry of `plugins` is of the file of a plug-in."""
    if isinstance(entry, Mapping):
        return bool(entry.get("file") == plugin.file)
    name = entry.file if isinstance(entry, Plugin) else Path(str(entry)).name
    return bool(name == plugin.file)


def _plugin(entry: Any, folder: Path, key: str) -> Plugin:
    if isinstance(entry, Plugin):
        return entry
    if isinstance(entry, str):
        if not (folder / entry).exists():
            raise ConfigError(key, f"there is no file {folder / entry}", "check the path")
        return read_plugin(folder / entry)
    plugin = build(Plugin, entry, key=key)
    try:
        return load_plugin(plugin.file, source_of(plugin))
    except KeyError:
        path = folder / PLUGIN_FOLDER / plugin.file
        if path.name != plugin.file:
            raise ConfigError(key, f"{plugin.file!r} is no file name", "give one") from None
        _refuse_of_others(path, key)
        return read_plugin(path, plugin)


def _refuse_of_others(path: Path, key: str) -> None:
    """Refuse to run what somebody else left in a study's folder, because that was only read."""
    if hasattr(os, "getuid") and path.exists() and path.stat().st_uid != os.getuid():
        problem = f"{path} belongs to another user, and reading the study would run it"
        raise ConfigError(key, problem, "look at it, then copy the study's folder")


def write_plugins(plugins: Iterable[Plugin], folder: Path) -> None:
    """Copy the plug-ins of a study into its folder, so that it is complete."""
    for plugin in plugins:
        path = folder / PLUGIN_FOLDER / plugin.file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, source_of(plugin))
