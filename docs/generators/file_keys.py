"""Every key of a study's file, or a space's, from their JSON Schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from dynloss_core.json_schema import JSONSchema
from studies.definition.schemas import FileKind, schema_text

__all__ = ["keys_of_file"]

Names = dict[str, tuple[str, str]]
"""How a mapping is called, and where its keys are."""

_NAMES = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
}


def keys_of_file(kind: FileKind) -> str:
    """The keys as definition lists: the file's own, then those of each mapping in it."""
    schema = json.loads(schema_text(kind))
    definitions: dict[str, JSONSchema] = schema["$defs"]
    names = {
        name: (f"`{_choice(inner)}`" if _choice(inner) else _words(name), f"#{kind}-{_slug(name)}")
        for name, inner in definitions.items()
    }
    parts = ["## Keys of the file\n", *_keys(schema, names)]
    for name in _in_order(schema, definitions):
        inner = definitions[name]
        title, target = names[name]
        parts.append(f"({target[1:]})=\n## {_title(title, inner)}\n")
        parts.append(f"{inner['description']}\n")
        parts += _keys(inner, names)
    return "\n".join(parts)


def _in_order(schema: JSONSchema, definitions: dict[str, JSONSchema]) -> list[str]:
    """Names of definitions, each after the one that mentions it first."""
    order: list[str] = []
    waiting = list(_mentioned(schema["properties"]))
    while waiting:
        name = waiting.pop(0)
        if name not in order:
            order.append(name)
            waiting[:0] = _mentioned(definitions[name])
    return order


def _mentioned(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from _mentioned(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _mentioned(value)


def _keys(schema: JSONSchema, names: Names) -> Iterator[str]:
    required = schema.get("required", [])
    for name, value in schema["properties"].items():
        said = [_type_of(value, names)]
        if name in required:
            said.append("required")
        elif "default" in value and not (isinstance(value["default"], dict) and "$ref" in value):
            said.append(f"default `{_flow(value['default'])}`")
        description = value.get("description", "")
        described = f" {_sentence(description)}" if description else ""
        yield f"`{name}`\n: *{', '.join(said)}.*{described}\n"


def _type_of(schema: JSONSchema, names: Names) -> str:
    if "$ref" in schema:
        title, target = names[schema["$ref"].rpartition("/")[2]]
        return f"[{title}]({target})"
    if "enum" in schema:
        return " or ".join(f"`{_flow(choice)}`" for choice in schema["enum"])
    if "anyOf" in schema:
        types = [_type_of(choice, names) for choice in schema["anyOf"]]
        linked = [each for each in types if each.startswith("[`")]
        return " or ".join(dict.fromkeys(linked or types))  # a name alone is its link's short form
    types = schema.get("type", "any value")
    if isinstance(types, list):
        return " or ".join(_type_of({**schema, "type": each}, names) for each in types)
    if types == "array":
        return f"list of {_type_of(schema.get('items') or {}, names)}"
    if types == "object" and schema.get("additionalProperties"):
        return f"mapping of names to {_type_of(schema['additionalProperties'], names)}"
    return _NAMES.get(types, "mapping" if types == "object" else types)


def _choice(schema: JSONSchema) -> str:
    """What a mapping is known by: `name: spirals` of data, `type: float` of a parameter."""
    for key in ("name", "type"):
        choices = schema["properties"].get(key, {}).get("enum", [])
        if len(choices) == 1:
            return str(choices[0])
    return ""


def _title(words: str, schema: JSONSchema) -> str:
    key = "name" if "name" in schema["properties"] else "type"
    return f"`{key}: {words[1:]}" if words.startswith("`") else words[0].upper() + words[1:]


def _words(name: str) -> str:
    """`LearningRateSchedule` as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _sentence(text: str) -> str:
    """With a capital and a full stop; code keeps its letters."""
    return f"{text[0].upper()}{text[1:]}" + ("" if text.endswith((".", ":")) else ".")


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return text.removesuffix("\n...")
