"""JSON Schemas of study and space files, for editors."""

from __future__ import annotations

import json
from typing import Any, Literal

from dynloss_core.json_schema import JSONSchema, schema_of
from search_spaces import Space
from studies.definition.study import Study

__all__ = ["FileKind", "schema_of_files", "schema_text"]

FileKind = Literal["study", "space"]

_EXTENDS = {
    "description": "The space that this one is laid over: a name of the library, or a file. A "
    "parameter keeps what is not said anew; null removes it.",
    "type": "string",
}
_POINTS_FROM = {
    "description": "Folders of finished studies, from this file on: each arm's search starts from "
    "what the arm of its name won with there.",
    "type": "array",
    "items": {"type": "string"},
}
_PROFILES = {
    "description": "Variants of the file by name: entries that replace its own, mapping by mapping "
    "(`--profile NAME`).",
    "type": "object",
    "additionalProperties": {"type": "object"},
}


def schema_of_files(kind: FileKind) -> JSONSchema:
    """The schema of study files, or of space files."""
    schema = schema_of(Study if kind == "study" else Space)
    definitions = schema["$defs"]
    definitions["Space"] = _in_file(definitions.get("Space", schema), definitions)
    if kind == "space":
        schema = {**schema, **definitions.pop("Space")}
    else:
        space = schema["properties"]["space"]
        schema["properties"]["space"] = {
            "description": space.get("description", ""),
            "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Space"}],
        }
        schema["properties"]["profiles"] = _PROFILES
        schema["properties"]["points_from"] = _POINTS_FROM
        plugins = schema["properties"]["plugins"]
        plugins["items"] = {"anyOf": [{"type": "string"}, plugins["items"]]}
    return schema


def schema_text(kind: FileKind) -> str:
    """The same as the text of the file that ships with the suite."""
    return json.dumps(schema_of_files(kind), indent=1, ensure_ascii=False) + "\n"


def _in_file(space: JSONSchema, definitions: dict[str, JSONSchema]) -> JSONSchema:
    """A space as files write it: laid over another one, its parameters with what differs."""
    kinds = [definition for name, definition in definitions.items() if name.endswith("Parameter")]
    fields: dict[str, Any] = {}
    for kind in kinds:
        for name, schema in kind["properties"].items():
            fields.setdefault(name, {k: v for k, v in schema.items() if k != "default"})
    fields["type"] = {"enum": [definition["properties"]["type"]["enum"][0] for definition in kinds]}
    changed = {"type": "object", "properties": fields, "additionalProperties": False}
    properties = {"extends": _EXTENDS, **space["properties"]}
    properties["parameters"] = {
        **properties["parameters"],
        "type": ["object", "null"],  # nothing below the key changes nothing
        "additionalProperties": {"anyOf": [changed, {"type": "null"}]},
    }
    written = {key: value for key, value in space.items() if not key.startswith("$")}
    return {**written, "properties": properties, "required": []}
