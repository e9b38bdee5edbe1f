"""The plug-ins of a study: named in its file, and kept in its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError, build, show
from dynloss_core.plugins import Plugin, load_plugin, read_plugin, source_of

__all__ = ["listed", "plugins_in", "write_plugins"]

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
    for index, entry in enumerate(listed(given, source)):
        key = f"plugins[{index}]"
        try:
            if recorded and isinstance(entry, str):
                remedy = "put back the study's own definition"
                raise ConfigError(key, f"{show(entry)} is a path in a study that was begun", remedy)
            plugin = _plugin(entry, folder, key)
        except ConfigError as error:
            raise error.inside(source=source) from None
        twin = next((each for each in read if each.file == plugin.file), None)
        if twin is not None:
            problem = f"a second file of the name {plugin.file!r}"
            raise ConfigError(key, problem, "give each another name", source)
        read.append(plugin)
    return read


def _plugin(entry: Any, folder: Path, key: str) -> Plugin:
    if isinstance(entry, Plugin):
        return entry
    if isinstance(entry, str):
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
