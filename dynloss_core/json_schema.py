"""What `config.build` accepts, as a JSON Schema for completion and checks in editors.

A schema knows the form of a file: its keys, their types and their choices. Whether values fit
together is for the loader to check.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union

from dynloss_core.config import NameIn, OneOf, to_dict

__all__ = ["JSONSchema", "descriptions_of", "schema_of"]

JSONSchema = dict[str, Any]

_SCALARS = {float: "number", int: "integer", bool: "boolean", str: "string"}
_ARGUMENT = re.compile(r"^    ((?:\w+)(?:, \w+)*): (.*(?:\n        .*)*)", re.MULTILINE)


def schema_of(cls: Any) -> JSONSchema:
    """The JSON Schema (draft 2020-12) of a dataclass, with the dataclasses inside it in `$defs`."""
    definitions: dict[str, JSONSchema] = {}
    schema = _class_schema(cls, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "$defs": dict(sorted(definitions.items())),
    }


def descriptions_of(cls: type) -> dict[str, str]:
    """The descriptions of a dataclass's fields from its docstring, each on one line."""
    descriptions: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, arguments = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")
        for names, text in _ARGUMENT.findall(arguments):
            descriptions |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return descriptions


def _class_schema(
    cls: Any, definitions: dict[str, JSONSchema], tag: str | None = None
) -> JSONSchema:
    hints, described = typing.get_type_hints(cls, include_extras=True), descriptions_of(cls)
    properties, required = {}, [] if tag is None else [tag]
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        schema = _hint_schema(hints[field.name], definitions)
        if field.name in described:
            schema = {"description": described[field.name], **schema}
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            required.append(field.name)
        elif default == default:  # NaN marks a required value
            schema["default"] = to_dict(default)
        properties[field.name] = schema
    summary = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _hint_schema(hint: Any, definitions: dict[str, JSONSchema]) -> JSONSchema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        (choices,) = (argument for argument in arguments if isinstance(argument, (OneOf, NameIn)))
        if isinstance(choices, NameIn):
            return {"enum": list(choices.table)}
        return _tagged(list(choices.table.values()), definitions)
    if origin in (Union, types.UnionType):
        return _union_schema(arguments, definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, list):
        return {"type": "array", "items": _hint_schema(arguments[0], definitions)}
    if origin in (dict, Mapping):
        item = _hint_schema(arguments[1], definitions) if arguments else {}
        return {"type": "object", "additionalProperties": item}
    if dataclasses.is_dataclass(hint):
        return _reference(hint, definitions)
    return {"type": _SCALARS[hint]} if hint in _SCALARS else {}


def _union_schema(arguments: Sequence[Any], definitions: dict[str, JSONSchema]) -> JSONSchema:
    members = [argument for argument in arguments if argument is not type(None)]
    classes = [member for member in members if dataclasses.is_dataclass(member)]
    others = [_hint_schema(member, definitions) for member in members if member not in classes]
    if len(classes) > 1:
        others.append(_tagged(classes, definitions))
    else:
        others += [_reference(cls, definitions) for cls in classes]
    if len(members) < len(arguments):
        others.append({"type": "null"})
    return others[0] if len(others) == 1 else {"anyOf": others}


def _tagged(classes: Sequence[Any], definitions: dict[str, JSONSchema]) -> JSONSchema:
    """Dataclasses told apart by their first field, or the name alone."""
    names = [dataclasses.fields(cls)[0].default for cls in classes]
    tag = dataclasses.fields(classes[0])[0].name
    return {"anyOf": [{"enum": names}, *(_reference(cls, definitions, tag) for cls in classes)]}


def _reference(cls: Any, definitions: dict[str, JSONSchema], tag: str | None = None) -> JSONSchema:
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _class_schema(cls, definitions, tag)
    return {"$ref": f"#/$defs/{name}"}
