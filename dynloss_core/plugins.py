"""Networks and data sets of one's own, from a Python file.

A plug-in is a file that defines configurations as the built-in ones are: frozen dataclasses whose
first field is `name: Literal["..."] = "..."`, with `build(input_shape, num_classes)` for a network
(see `models.ModelConfig`), or `load(seed)` for a data set (see `data.DataConfig`). Reading a
plug-in runs it, and its classes join `MODELS` and `DATA_SETS` under their names.

A configuration's hash covers the text of the file that defines its class: networks of an edited
file are other networks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import linecache
import re
import sys
import traceback
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynloss_core.config import PLUGIN_DIGEST, ConfigError, reason_of
from dynloss_core.data import DATA_SETS
from dynloss_core.models import MODELS

__all__ = ["Luggage", "Plugin", "classes_of", "load_plugin", "read_plugin", "source_of"]

_LARGEST_FILE = 1_000_000  # bytes
_DIGITS = 12
_MODEL = ("build",)
_DATA_SET = ("load", "num_classes", "training_samples", "input_shape")
_sources: dict[Plugin, str] = {}


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
        expected: what it must be; another text is not run.

    Raises:
        ConfigError: if it cannot be read, is another, does not run, or defines nothing that fits.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LARGEST_FILE)
    except FileNotFoundError:
        raise ConfigError("", "no such plug-in", "check the path", str(path)) from None
    except (OSError, ValueError) as error:
        problem = f"cannot be read: {reason_of(error)}"
        raise ConfigError("", problem, "give a Python file", str(path)) from None
    if len(text) == _LARGEST_FILE:
        raise ConfigError("", "is too large", "give a file of less than a megabyte", str(path))
    plugin = _plugin_of(path.name, text)
    if expected is not None and plugin != expected:
        remedy = "put back the file that the study was begun with"
        raise ConfigError("", "was edited", remedy, str(path))
    return load_plugin(path.name, text, str(path))


def load_plugin(file: str, text: str, source: str = "") -> Plugin:
    """Run the text of a plug-in, once in a process, and add its classes to the tables.

    Args:
        file: the name of its file; another text of the same file takes its place.
        text: its content.
        source: the name that messages give it.

    Raises:
        ConfigError: if it does not run, or defines nothing that fits.
    """
    source = source or file
    plugin = _plugin_of(file, text)
    if plugin in _sources:
        found = _module_of(plugin)
    else:
        found = _run(plugin, text, source)
    rows = list(_rows(found, source))
    if not rows:
        problem = "defines no network and no data set"
        remedy = "define a frozen dataclass with `name: Literal[...]` and `build` or `load`"
        raise ConfigError("", problem, remedy, source)
    for index, (table, name, cls) in enumerate(rows):
        _refuse_taken(table, name, file, source)
        if any(table is t and name == n for t, n, _ in rows[:index]):
            problem = f"defines {name!r} twice, the second time by class {cls.__name__}"
            raise ConfigError("", problem, "choose another name", source)
    earlier = {each.digest for each in _sources if each.file == file}
    for known in (MODELS, DATA_SETS):
        for name in [n for n, c in known.items() if getattr(c, PLUGIN_DIGEST, None) in earlier]:
            del known[name]
    for table, name, cls in rows:
        setattr(cls, PLUGIN_DIGEST, plugin.digest)
        table[name] = cls
    _sources[plugin] = text
    return plugin


def _plugin_of(file: str, text: str) -> Plugin:
    return Plugin(file, hashlib.sha256(text.encode()).hexdigest()[:_DIGITS])


def source_of(plugin: Plugin) -> str:
    """The text of a plug-in that was loaded in this process.

    Raises:
        KeyError: if it was not.
    """
    return _sources[plugin]


def classes_of(plugin: Plugin) -> dict[str, type]:
    """The configurations that a plug-in defines, by name."""
    return {name: cls for _, name, cls in _rows(_module_of(plugin), plugin.file)}


class Luggage:
    """Pickled before what rests on plug-ins, it brings their texts, and reading it loads them.

    Args:
        plugins: plug-ins that were loaded in this process.
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
    """A module of its own for each text: what is pickled in one process is found in another."""
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
        raise ConfigError("", f"is not Python: {error.msg}", "correct it there", where) from None
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        frames = traceback.extract_tb(error.__traceback__)
        lines_of_it = [frame.lineno for frame in frames if frame.filename == source]
        where = f"{source}:{lines_of_it[-1]}" if lines_of_it else source
        problem = f"does not run: {type(error).__name__}: {reason_of(error)}"
        raise ConfigError("", problem, "correct it there", where) from None
    return module


def _rows(module: types.ModuleType, source: str) -> Iterator[tuple[dict[str, Any], str, type]]:
    """What belongs into which table, under which name."""
    for value in list(vars(module).values()):
        if not isinstance(value, type) or value.__module__ != module.__name__:
            continue
        if "__dataclass_params__" not in vars(value):
            continue
        is_model, is_data = hasattr(value, "build"), hasattr(value, "load")
        if not is_model and not is_data:
            continue
        if is_model and not hasattr(value, "initialisation"):
            value.initialisation = "lecun_normal"  # type: ignore[attr-defined]
        name = _name_of(value, source)
        try:
            typing.get_type_hints(value)
        except Exception as error:
            problem = f"a type of class {value.__name__} is not known: {reason_of(error)}"
            raise ConfigError("", problem, "import it outside TYPE_CHECKING", source) from None
        known = {field.name for field in dataclasses.fields(value)}
        for needed in _MODEL if is_model else _DATA_SET:
            if needed not in known and not hasattr(value, needed):
                problem = f"class {value.__name__} has no {needed!r}"
                remedy = f"a data set has each of: {', '.join(_DATA_SET)}"
                raise ConfigError("", problem, remedy, source)
        table: dict[str, Any] = MODELS if is_model else DATA_SETS
        yield table, name, value


def _name_of(cls: Any, source: str) -> str:
    """The name of a configuration, which is the default of its first field."""
    fields = dataclasses.fields(cls)
    first = fields[0] if fields else None
    if first is None or first.name != "name" or not isinstance(first.default, str):
        problem = f"class {cls.__name__} does not begin with its name"
        raise ConfigError("", problem, 'add `name: Literal["..."] = "..."` first', source)
    if not cls.__dataclass_params__.frozen:
        problem = f"class {cls.__name__} is not frozen"
        raise ConfigError("", problem, "write @dataclass(frozen=True)", source)
    name: str = first.default
    return name


def _refuse_taken(table: dict[str, Any], name: str, file: str, source: str) -> None:
    """Refuse a name that is built in, or of another file."""
    known = table.get(name)
    if known is None:
        return
    digest = getattr(known, PLUGIN_DIGEST, None)
    owner = next((each.file for each in _sources if each.digest == digest), None)
    if owner != file:
        whose = "is built in" if owner is None else f"is also one of {owner}"
        raise ConfigError("", f"the name {name!r} {whose}", "choose another name", source)
