"""What a plug-in's file defines, checked: a class or an entry of a mapping, with its kind and name.

A refusal names the line of the definition: `nets.py:12`.
"""

from __future__ import annotations

import ast
import dataclasses
import linecache
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from dynloss_core.config import ConfigError, reason_of
from dynloss_core.data import DATA_SETS
from dynloss_core.losses import LOSSES, Loss
from dynloss_core.models import MODELS
from dynloss_core.oscillation import SHAPES

__all__ = [
    "ANALYSES",
    "TABLES",
    "Definition",
    "PluginKind",
    "definitions_of",
    "mapped",
    "where_defined",
]

_MODEL = ("build",)
_DATA_SET = ("load", "num_classes", "training_samples", "input_shape")
PluginKind = Literal["network", "data set", "loss", "shape", "analysis"]
"""What a plug-in can define."""

ANALYSES: dict[str, Any] = {}
"""Analyses of plug-ins; the suite's own are in `studies.analysis`."""

TABLES: dict[PluginKind, dict[str, Any]] = {
    "network": MODELS,
    "data set": DATA_SETS,
    "loss": LOSSES,
    "shape": SHAPES,
    "analysis": ANALYSES,
}
_FITS: dict[PluginKind, tuple[str, Callable[[Any], bool], str, str]] = {
    "loss": ("LOSSES", lambda value: isinstance(value, Loss), "a losses.Loss", "own-loss"),
    "shape": ("SHAPES", callable, "a function of tau and the period", "own-loss"),
    "analysis": ("ANALYSES", callable, "a function from a study's tables to cards", "own-analysis"),
}
"""Kinds that are defined in a mapping: its name, a check of its values, what they are, and the
how-to page on them."""


class Definition(NamedTuple):
    """What a plug-in adds to a table.

    Args:
        kind: which table.
        name: its name there.
        value: the class, loss or function.
    """

    kind: PluginKind
    name: str
    value: Any


def definitions_of(module: types.ModuleType, source: str) -> Iterator[Definition]:
    """What a module defines, with kind and name."""
    for value in list(vars(module).values()):
        if not isinstance(value, type) or value.__module__ != module.__name__:
            continue
        if "__dataclass_params__" not in vars(value):
            continue
        if hasattr(value, "build") or hasattr(value, "load"):
            yield _configuration(value, source)
    for kind in _FITS:
        yield from mapped(module, source, kind)


def mapped(module: types.ModuleType, source: str, kind: PluginKind) -> Iterator[Definition]:
    """The rows of a kind that a module defines as a mapping."""
    variable, fits, what, page = _FITS[kind]
    defined = vars(module).get(variable, {})
    if defined is TABLES[kind]:
        return  # imported by the module, not defined in it
    if not isinstance(defined, Mapping):
        problem = f"{variable} is not a mapping"
        remedy = f'write {variable} = {{"name": ...}}'
        raise ConfigError("", problem, remedy, _located(source, variable))
    for name, value in defined.items():
        if not isinstance(name, str) or not fits(value):
            problem, where = f"{variable}[{name!r}] is not {what}", _located(source, variable, name)
            raise ConfigError("", problem, f"see docs/how-to/{page}.md", where)
        yield Definition(kind, name, value)


def _configuration(cls: Any, source: str) -> Definition:
    """The row of a network or a data set, checked."""
    is_model = hasattr(cls, "build")
    if is_model and not hasattr(cls, "initialisation"):
        cls.initialisation = "lecun_normal"
    name = _name_of(cls, source)
    try:
        typing.get_type_hints(cls)
    except Exception as error:
        problem = f"a type in class {cls.__name__} is unknown: {reason_of(error)}"
        remedy = "import it outside TYPE_CHECKING"
        raise ConfigError("", problem, remedy, _located(source, cls.__name__)) from None
    known = {field.name for field in dataclasses.fields(cls)}
    for needed in _MODEL if is_model else _DATA_SET:
        if needed not in known and not hasattr(cls, needed):
            problem = f"class {cls.__name__} has no {needed!r}"
            remedy = f"a data set has each of: {', '.join(_DATA_SET)}"
            raise ConfigError("", problem, remedy, _located(source, cls.__name__))
    return Definition("network" if is_model else "data set", name, cls)


def _name_of(cls: Any, source: str) -> str:
    """The name of a configuration, which is the default of its first field."""
    fields = dataclasses.fields(cls)
    first = fields[0] if fields else None
    if first is None or first.name != "name" or not isinstance(first.default, str):
        problem = f"class {cls.__name__} does not begin with its name"
        remedy = 'add `name: Literal["..."] = "..."` first'
        raise ConfigError("", problem, remedy, _located(source, cls.__name__))
    if not cls.__dataclass_params__.frozen:
        problem = f"class {cls.__name__} is not frozen"
        remedy, where = "write @dataclass(frozen=True)", _located(source, cls.__name__)
        raise ConfigError("", problem, remedy, where)
    name: str = first.default
    return name


def where_defined(definition: Definition, source: str) -> str:
    """The file and line of a definition."""
    if isinstance(definition.value, type):
        return _located(source, definition.value.__name__)
    return _located(source, _FITS[definition.kind][0], definition.name)


def _located(source: str, name: str, entry: str | None = None) -> str:
    """The file and line of the last definition of a name at the top level of a module.

    Args:
        source: the file, as `linecache` knows it.
        name: of a class, or of a variable.
        entry: a key of the mapping that the variable is.

    Returns:
        The file alone if the line is not found: a name may be defined in other ways.
    """
    try:
        module = ast.parse("".join(linecache.getlines(source)))
    except SyntaxError:
        return source
    definitions = [node for node in module.body if name in _names(node)]
    if not definitions:
        return source
    last = definitions[-1]
    value = last.value if isinstance(last, ast.Assign | ast.AnnAssign) else None
    keys = value.keys if isinstance(value, ast.Dict) and entry is not None else []
    lines = [key.lineno for key in keys if isinstance(key, ast.Constant) and key.value == entry]
    return f"{source}:{[last.lineno, *lines][-1]}"


def _names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement defines as a class or a variable."""
    if isinstance(statement, ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.AnnAssign):
        yield ast.unparse(statement.target)
    elif isinstance(statement, ast.Assign):
        yield from map(ast.unparse, statement.targets)
