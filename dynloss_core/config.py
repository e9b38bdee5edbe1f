"""Configuration as frozen dataclasses, built strictly from plain mappings.

The file is long because building, refusing and describing read the same annotations.

One mechanism serves the whole suite: core problems, search spaces and study files are all
dataclasses, and `build` turns parsed YAML or JSON into them. It refuses unknown and missing keys,
wrong types and numbers that arrive as text; each refusal is one line that names the source, the
key, the value and the remedy.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union

__all__ = [
    "ADDED_LATER",
    "NOT_HASHED",
    "PLUGIN_DIGEST",
    "ConfigError",
    "NameIn",
    "OneOf",
    "build",
    "config_hash",
    "printable",
    "reason_of",
    "refuse_other_choices",
    "show",
    "to_dict",
    "to_hashed",
]

T = TypeVar("T")

ADDED_LATER = {"added_later": True}
"""Metadata of a field added after studies had been run. At its default it is left out of hashes, so
those studies keep their hashes and can be resumed."""

NOT_HASHED = {"not_hashed": True}
"""Metadata of a field that changes no result, such as where a file lies."""

PLUGIN_DIGEST = "plugin_digest"
"""Attribute of a class defined by a plug-in (see `plugins`): the plug-in's digest, which enters
hashes."""

_TOO_LARGE = 2**63  # for a count, a seed or a size
_NUMBER_AS_TEXT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class ConfigError(ValueError):
    """A refused configuration; its message is one line: source, key, what is wrong, what to do.

    Args:
        key: dotted path of the offending key; empty for the whole document.
        problem: what is wrong, with the value.
        remedy: what to write instead.
        source: the file or the command-line option the value came from.
    """

    def __init__(self, key: str, problem: str, remedy: str = "", source: str = "") -> None:
        self.key, self.problem, self.remedy, self.source = key, problem, remedy, source
        super().__init__(key, problem, remedy, source)

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.source, self.key) if part)
        line = f"{where}: {self.problem}" if where else self.problem
        line = f"{line}; {self.remedy}" if self.remedy else line
        return printable(" ".join(line.split()))

    def inside(self, prefix: str = "", source: str = "") -> ConfigError:
        """The same refusal, seen from an enclosing document."""
        key = join_key(prefix, self.key)
        return ConfigError(key, self.problem, self.remedy, self.source or source)


def join_key(prefix: str, key: str) -> str:
    """`budget` and `total` make `budget.total`."""
    return ".".join(part for part in (prefix, key) if part)


def printable(text: str) -> str:
    """A text that is safe to print on a terminal: escape sequences and other unprintable characters
    become their codes; newlines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def show(value: object) -> str:
    """A value for a message: short, on one line."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python turns into text
        text = "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def unknown_key(key: str, known: Sequence[str], prefix: str = "") -> ConfigError:
    """The refusal of an unknown key, with the nearest known one as its remedy."""
    close = difflib.get_close_matches(str(key), known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}"
    return ConfigError(join_key(prefix, str(key)), "unknown key", remedy)


@dataclass(frozen=True, eq=False)
class OneOf:
    """Marks an annotation whose value is one of the dataclasses of a table, told apart by their
    first field, a literal such as `name`.

    Args:
        table: the dataclasses by that name.
    """

    table: Mapping[str, type]


@dataclass(frozen=True, eq=False)
class NameIn:
    """Marks a text annotation whose value is the name of a row of a table, which can grow.

    Args:
        table: the rows by name.
    """

    table: Mapping[str, Any]


def build(cls: type[T], mapping: object, *, key: str = "", source: str = "") -> T:
    """Build the dataclass `cls` from a plain mapping, refusing whatever does not fit.

    Raises:
        ConfigError: unknown, missing or wrongly typed keys, or a value the class itself refuses.
    """
    try:
        return typing.cast(T, _build(cls, mapping, key))
    except ConfigError as error:
        raise error.inside(source=source) from None


def _build(cls: Any, mapping: object, key: str) -> object:
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            key, f"expected a mapping, got {show(mapping)}", "write `key: value` lines"
        )
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in mapping:
        if name not in fields:
            raise unknown_key(str(name), list(fields), key)
    values = {}
    for name, field in fields.items():
        path = join_key(key, name)
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(path, "missing", f"add `{name}: {_describe(hints[name])}`")
    try:
        built = cls(**values)
        if hasattr(cls, PLUGIN_DIGEST):
            hash(built)
    except ConfigError as error:
        raise error.inside(key) from None
    except Exception as error:
        if not hasattr(cls, PLUGIN_DIGEST):
            raise
        problem = f"class {cls.__name__} refuses these values: {reason_of(error)}"
        raise ConfigError(key, problem, "give it plain values; lists as tuples") from None
    return typing.cast(object, built)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """The annotations of a class, evaluated."""
    return typing.get_type_hints(cls, include_extras=True)


def _convert(hint: Any, value: object, key: str) -> object:
    """Convert `value` to the type that the annotation `hint` asks for, or raise a ConfigError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        choices = _table_of(arguments)
        if isinstance(choices, NameIn):
            return _choice(tuple(choices.table), value, key)
        classes = list(choices.table.values())
        is_built = isinstance(value, tuple(classes)) or hasattr(value, PLUGIN_DIGEST)
        return value if is_built else _build_tagged(classes, value, key)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, key)
    if origin is Literal:
        return _choice(arguments, value, key)
    if origin in (tuple, list):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(key, f"expected a list, got {show(value)}", "write [a, b, ...]")
        items = [_convert(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value)]
        return tuple(items)
    if origin in (dict, Mapping):
        return _convert_mapping(arguments, value, key)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, typing.cast(type, hint)) else _build(hint, value, key)
    return _convert_scalar(hint, value, key)


def _choice(arguments: tuple[Any, ...], value: object, key: str) -> object:
    if value in arguments and type(value) in {type(argument) for argument in arguments}:
        return value
    choices = ", ".join(str(argument) for argument in arguments)
    close = difflib.get_close_matches(str(value), [str(a) for a in arguments], n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose one of: {choices}"
    raise ConfigError(key, f"{show(value)} is not one of the choices", remedy)


def refuse_other_choices(config: Any) -> None:
    """Refuse a value that is not among the choices of its field, in a dataclass made in Python
    rather than by `build`, which nothing else checks.

    Raises:
        ConfigError: naming the field, its value and the choices.
    """
    for name, choices in _choices(config.__class__).items():
        known = tuple(choices.table) if isinstance(choices, NameIn) else choices
        _choice(known, getattr(config, name), name)


@cache
def _choices(cls: type) -> dict[str, tuple[Any, ...] | NameIn]:
    hints = _hints(cls)
    by_field: dict[str, tuple[Any, ...] | NameIn] = {}
    for name in (field.name for field in dataclasses.fields(cls)):
        origin, arguments = typing.get_origin(hints[name]), typing.get_args(hints[name])
        if origin is Literal:
            by_field[name] = arguments
        elif origin is Annotated and isinstance(choices := _table_of(arguments), NameIn):
            by_field[name] = choices
    return by_field


def _table_of(arguments: Sequence[Any]) -> OneOf | NameIn:
    """The table in the metadata of an annotation."""
    return next(argument for argument in arguments if isinstance(argument, (OneOf, NameIn)))


def _convert_mapping(arguments: tuple[Any, ...], value: object, key: str) -> object:
    if not isinstance(value, Mapping):
        raise ConfigError(key, f"expected a mapping, got {show(value)}", "write `key: value` lines")
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(key, f"key {show(name)} is not text", "put quotes around it")
    item = arguments[1] if arguments else Any
    return {name: _convert(item, entry, join_key(key, name)) for name, entry in value.items()}


def _convert_union(arguments: tuple[Any, ...], value: object, key: str) -> object:
    if value is None and type(None) in arguments:
        return None
    members = [argument for argument in arguments if argument is not type(None)]
    classes = [member for member in members if dataclasses.is_dataclass(member)]
    if classes and isinstance(value, tuple(typing.cast(list[type], classes))):
        return value
    if len(classes) > 1 and (isinstance(value, Mapping) or len(classes) == len(members)):
        return _build_tagged(classes, value, key)
    if len(members) == 1:
        return _convert(members[0], value, key)
    # 4 is first an integer, then a number; a mapping is refused as a mapping, not as a bad list
    kind: object = type(value)
    members.sort(key=lambda member: (typing.get_origin(member) or member) is not kind)
    refusals = []
    for member in members:
        try:
            return _convert(member, value, key)
        except ConfigError as error:
            refusals.append(error)
    raise refusals[0]


def _build_tagged(classes: list[Any], value: object, key: str) -> object:
    """Build the dataclass of a union that the first field, a literal such as `name`, selects."""
    tag = dataclasses.fields(classes[0])[0].name
    by_name = {dataclasses.fields(cls)[0].default: cls for cls in classes}
    if isinstance(value, str):
        value = {tag: value}
    name = value.get(tag) if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in by_name:
        known = ", ".join(str(choice) for choice in by_name)
        problem = "missing" if name is None else f"{show(name)} is not one of the choices"
        raise ConfigError(join_key(key, tag), problem, f"choose one of: {known}")
    return _build(by_name[name], value, key)


def _convert_scalar(hint: Any, value: object, key: str) -> object:
    if hint is Any or hint is object:
        return _plain_only(value, key)
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise ConfigError(key, f"{show(value)} is too large", "write a smaller number")
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(key, f"{value} is not a finite number", "write a finite number")
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    problem = f"expected {_describe(hint)}, got {show(value)}"
    if hint in (int, float) and isinstance(value, str) and _NUMBER_AS_TEXT.match(value):
        raise ConfigError(key, f"{value!r} is text, not a number", f"write {value} without quotes")
    raise ConfigError(key, problem, f"write {_describe(hint)}")


def _plain_only(value: object, key: str) -> object:
    """A value of no fixed type, unchanged, if JSON could hold it too: YAML also has dates and
    bytes."""
    if isinstance(value, Mapping):
        return {name: _plain_only(item, join_key(key, str(name))) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_only(item, f"{key}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, str)):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return _convert_scalar(kind, value, key)
    raise ConfigError(key, f"{show(value)} is neither a number nor text", "put quotes around it")


def _describe(hint: Any) -> str:
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in typing.get_args(hint) if a is not type(None))
    if origin is Literal:
        return " | ".join(str(argument) for argument in typing.get_args(hint))
    if origin in (tuple, list):
        return "[...]"
    if origin is Annotated:
        choices = _table_of(typing.get_args(hint))
        names_in = " | ".join(choices.table)
        return names_in if isinstance(choices, NameIn) else f"{{name: {names_in}}}"
    return names.get(hint, "{...}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested plain dictionaries and lists, ready for YAML or JSON."""
    return typing.cast(dict[str, Any], _plain(config))


def to_hashed(config: Any) -> dict[str, Any]:
    """Like `to_dict`, but without fields that do not enter hashes (`NOT_HASHED`, and `ADDED_LATER`
    at their defaults)."""
    return typing.cast(dict[str, Any], _plain(config, hashed=True))


def _plain(value: object, *, hashed: bool = False) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {
            field.name: _plain(getattr(value, field.name), hashed=hashed)
            for field in dataclasses.fields(value)
            if field.init and not (hashed and _changes_nothing(value, field))
        }
        digest = getattr(value, PLUGIN_DIGEST, None)
        return {**plain, PLUGIN_DIGEST: digest} if hashed and digest is not None else plain
    if isinstance(value, Mapping):
        return {str(key): _plain(item, hashed=hashed) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, hashed=hashed) for item in value]
    return value


def _changes_nothing(config: object, field: dataclasses.Field[Any]) -> bool:
    """Whether a field changes no result: either it never does, or it was added later and has its
    default."""
    if field.metadata.get("not_hashed"):
        return True
    if not field.metadata.get("added_later"):
        return False
    made = field.default_factory
    default = field.default if made is dataclasses.MISSING else made()
    return bool(getattr(config, field.name) == default)


def config_hash(config: Any) -> str:
    """Twelve hexadecimal digits that identify a configuration, whatever the process and key order.

    The configuration is first rebuilt from its plain form, so that `noise=0` and `noise=0.0` have
    the same hash.
    """
    normal = _plain(_rebuilt(config), hashed=True)
    text = json.dumps(normal, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _rebuilt(config: Any) -> Any:
    """A configuration rebuilt from its plain form, each part by its own class: one process can hold
    several texts of a plug-in."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    parts = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.init
    }
    plain = {
        name: _rebuilt(part) if dataclasses.is_dataclass(part) else _plain(part)
        for name, part in parts.items()
    }
    return build(type(config), plain)
