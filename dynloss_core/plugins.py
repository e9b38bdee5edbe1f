"""A user's own networks, data sets, losses, shapes and analyses, from a Python file.

A plug-in is a file that defines configurations like the built-in ones: frozen dataclasses whose
first field is `name: Literal["..."] = "..."`, with `build(input_shape, num_classes)` for a network
(see `models.ModelConfig`), or `load(seed)` for a data set (see `data.DataConfig`). Losses are a
mapping `LOSSES` of `losses.Loss` by name, and shapes a mapping `SHAPES` of functions (see
`oscillation.shapes`). Reading a plug-in runs it and adds its definitions to the suite's own tables.
Analyses, a mapping `ANALYSES` of functions, look at the results of the study that names the file.

A configuration's hash includes the text of the file that defines its class: after an edit, its
networks are different networks.
"""

from __future__ import annotations

import hashlib
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynloss_core.config import PLUGIN_DIGEST, ConfigError, reason_of
from dynloss_core.plugin_definitions import (
    ANALYSES,
    TABLES,
    Definition,
    PluginKind,
    definitions_of,
    mapped,
    where_defined,
)

__all__ = [
    "ANALYSES",
    "PluginKind",
    "Plugin",
    "PluginTexts",
    "changes_results",
    "defined_in",
    "defines",
    "definitions_in",
    "failure_in",
    "is_built_in",
    "load_plugin",
    "plugin_of",
    "read_plugin",
    "source_of",
]

_MAX_FILE_BYTES = 1_000_000
_DIGITS = 12
_sources: dict[Plugin, str] = {}
_owners: dict[tuple[PluginKind, str], Plugin] = {}  # the plug-in of each row that is not built in


@dataclass(frozen=True)
class Plugin:
    """A plug-in as a study names it.

    Args:
        file: the name of its file.
        digest: twelve hexadecimal digits that identify its text.
    """

    file: str
    digest: str


def read_plugin(path: Path, expected: Plugin | None = None) -> Plugin:
    """Read a plug-in's file, and add its classes to the tables.

    Args:
        path: the file.
        expected: the plug-in it must be; a different text is not run.

    Raises:
        ConfigError: if it cannot be read, differs from `expected`, does not run, or defines nothing
            usable.
    """
    text = _text_in(path)
    plugin = _plugin_of(path.name, text)
    if expected is not None and plugin != expected:
        remedy = "put back the file that the study started with"
        raise ConfigError("", "was edited", remedy, str(path))
    return load_plugin(path.name, text, str(path))


def defined_in(path: Path, kind: PluginKind) -> dict[str, Any]:
    """The definitions of one kind in a file, by name; nothing is added to a table.

    Raises:
        ConfigError: if it cannot be read or does not run; the message names the line that raised.
    """
    text = _text_in(path)
    plugin = _plugin_of(path.name, text)
    module = sys.modules.get(_module_name(plugin)) or _run(plugin, text, str(path))
    return {name: value for _, name, value in mapped(module, str(path), kind)}


def _text_in(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ConfigError("", "no such plug-in", "check the path", str(path)) from None
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {reason_of(error)}"
        raise ConfigError("", problem, "give a Python file", str(path)) from None
    if len(text) == _MAX_FILE_BYTES:
        raise ConfigError("", "is too large", "give a file of less than a megabyte", str(path))
    return text


def failure_in(error: BaseException, source: str) -> tuple[str, str]:
    """The message of an exception from a user's own file, and its `file:line` there."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == source]
    where = f"{source}:{lines[-1]}" if lines else source
    return f"{type(error).__name__}: {reason_of(error)}", where


def load_plugin(file: str, text: str, source: str = "") -> Plugin:
    """Run the text of a plug-in, once per process, and add its classes to the tables.

    Args:
        file: the name of its file; a later text of the same file replaces an earlier one.
        text: its content.
        source: the name used in messages.

    Raises:
        ConfigError: if it does not run, or defines nothing usable.
    """
    source = source or file
    plugin = _plugin_of(file, text)
    if plugin in _sources:
        module = _module_of(plugin)
    else:
        module = _run(plugin, text, source)
    definitions = list(definitions_of(module, source))
    if not definitions:
        problem = "defines no network, data set, loss, shape or analysis"
        remedy = "define a frozen dataclass with `name: Literal[...]` and `build` or `load`"
        raise ConfigError("", problem, f"{remedy}, or LOSSES, SHAPES or ANALYSES by name", source)
    for index, definition in enumerate(definitions):
        _refuse_taken(definition, file, source)
        if any(definition[:2] == earlier[:2] for earlier in definitions[:index]):
            name = definition.value.__name__
            problem = f"defines {definition.name!r} twice, the second time by class {name}"
            where = where_defined(definition, source)
            raise ConfigError("", problem, "choose another name", where)
    for (kind, name), owner in list(_owners.items()):
        if owner.file == file:
            TABLES[kind].pop(name, None)
            del _owners[kind, name]
    for kind, name, value in definitions:
        if isinstance(value, type):
            setattr(value, PLUGIN_DIGEST, plugin.digest)
        TABLES[kind][name] = value
        _owners[kind, name] = plugin
    _sources[plugin] = text
    return plugin


def _plugin_of(file: str, text: str) -> Plugin:
    return Plugin(file, hashlib.sha256(text.encode()).hexdigest()[:_DIGITS])


def source_of(plugin: Plugin) -> str:
    """The text of a plug-in loaded in this process.

    Raises:
        KeyError: if it was not.
    """
    return _sources[plugin]


def definitions_in(plugin: Plugin) -> list[Definition]:
    """What a plug-in defines, with kind and name."""
    return list(definitions_of(_module_of(plugin), plugin.file))


def is_built_in(kind: PluginKind, name: str) -> bool:
    """Whether a name is one of the suite's own."""
    return name in TABLES[kind] and (kind, name) not in _owners


def defines(plugin: Plugin, kind: PluginKind, name: str) -> bool:
    """Whether a plug-in loaded in this process defines something of a kind under a name."""
    return any(row[:2] == (kind, name) for row in definitions_in(plugin))


def changes_results(plugin: Plugin) -> bool:
    """Whether a plug-in loaded in this process defines more than analyses."""
    return any(kind != "analysis" for kind, _, _ in definitions_in(plugin))


def plugin_of(config: object) -> Plugin | None:
    """The plug-in that defines the class of a configuration, loaded; None if it is built in.

    Args:
        config: the configuration of a network or a data set, made in Python. Its class may come
            from a plug-in, or from any module imported from a file.

    Raises:
        ConfigError: if its class was not imported from a file, or the file is not a plug-in.
    """
    cls = type(config)
    if hasattr(cls, PLUGIN_DIGEST):
        return next(plugin for plugin in _sources if _module_name(plugin) == cls.__module__)
    if any(cls is own for kind in ("network", "data set") for own in TABLES[kind].values()):
        return None
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if cls.__module__ == "__main__" or file is None:
        problem = f"class {cls.__name__} was not imported from a file, so workers cannot load it"
        remedy = "put it into a file, such as nets.py, and write `from nets import ...`"
        raise ConfigError("", problem, remedy)
    return read_plugin(Path(file))


class PluginTexts:
    """Carries the texts of plug-ins in a pickle; unpickling it loads them. Pickle it before what
    depends on them.

    Args:
        plugins: plug-ins loaded in this process.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._texts = tuple((plugin.file, source_of(plugin)) for plugin in plugins)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self._texts,)


def _unpack(texts: Iterable[tuple[str, str]]) -> None:
    for file, text in texts:
        load_plugin(file, text)


def _module_of(plugin: Plugin) -> types.ModuleType:
    return sys.modules[_module_name(plugin)]


def _module_name(plugin: Plugin) -> str:
    """A module name unique to each text, so that another process finds what one has pickled."""
    stem = re.sub(r"\W", "_", Path(plugin.file).stem)
    return f"dynloss_plugin_{stem}_{plugin.digest}"


def _run(plugin: Plugin, text: str, source: str) -> types.ModuleType:
    module = types.ModuleType(_module_name(plugin))
    lines = text.splitlines(keepends=True)
    linecache.cache[source] = (len(text), None, lines, source)  # for tracebacks on any machine
    sys.modules[module.__name__] = module
    try:
        code = compile(text, source, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  that is what it is for
    except SyntaxError as error:
        del sys.modules[module.__name__]
        where = f"{source}:{error.lineno}"
        raise ConfigError(
            "", f"is not valid Python: {error.msg}", "correct it there", where
        ) from None
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        problem, where = failure_in(error, source)
        raise ConfigError("", f"does not run: {problem}", "correct it there", where) from None
    return module


def _refuse_taken(definition: Definition, file: str, source: str) -> None:
    """Refuse a name that is built in or belongs to another file."""
    kind, name, _ = definition
    if name not in TABLES[kind]:
        return
    owner = _owners.get((kind, name))
    if owner is None or owner.file != file:
        whose = "is built in" if owner is None else f"is also one of {owner.file}"
        problem, where = f"the name {name!r} {whose}", where_defined(definition, source)
        raise ConfigError("", problem, "choose another name", where)
