"""YAML documents read strictly: `safe_load` only, no duplicate keys, no silent surprises."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dynloss_core.config import ConfigError, show

__all__ = ["find_document", "parse_document", "read_document"]

_LARGEST_FILE = 1_000_000  # bytes
_MOST_VALUES = 100_000  # with every alias written out
_DEEPEST = 50


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, except that duplicate keys are refused: there, the last one wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(str(key), f"duplicate key on line {line}", "keep one of the two")
            seen.add(key if isinstance(key, Hashable) else repr(key))
        return super().construct_mapping(node, deep=deep)


def parse_document(text: str, source: str = "") -> Any:
    """Parse a YAML text.

    Raises:
        ConfigError: if it is not YAML, or has duplicate keys.
    """
    try:
        document = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a subclass of SafeLoader
        _check_content(document)
    except ConfigError as error:
        raise error.inside(source=source) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"not valid YAML: {error.problem or error.context}"
        raise ConfigError(where, problem, "fix the syntax there", source) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = f"not valid YAML: {str(error)[:200]}"
        raise ConfigError("", problem, "write plain YAML text", source) from None
    return document


def _check_content(document: Any) -> None:
    """Refuse a document that aliases make endless: an alias inside its own anchor, or aliases of
    aliases of aliases. Whatever reads it later would follow them all."""
    pending, count = [(document, 1)], 0
    while pending:
        value, depth = pending.pop()
        count += 1
        if count > _MOST_VALUES or depth > _DEEPEST:
            limit = f"{_MOST_VALUES:,} values, {_DEEPEST} levels"
            raise ConfigError("", f"holds more than {limit}", "write it without aliases")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            problem = (
                f"{show(value)} holds half of a surrogate pair"  # "\ud83d": no file can hold it
            )
            raise ConfigError("", problem, "write the whole character itself")
        children = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list | set | tuple):
            pending += [(child, depth + 1) for child in children]


def read_document(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigError: if the file cannot be read, or is not one mapping.
    """
    source = str(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE)
    except FileNotFoundError:
        raise ConfigError("", "no such file", "check the path", source) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError("", problem, "give a readable UTF-8 text file", source) from None
    if len(text) == _LARGEST_FILE:
        raise ConfigError("", "is too large", "give a file of less than a megabyte", source)
    document = parse_document(text, source)
    if not isinstance(document, dict):
        raise ConfigError("", "expected `key: value` lines", "see the README for a file", source)
    return document


def find_document(
    kind: str, name_or_path: str | Path, library: Path, folder: Path | None = None, key: str = ""
) -> Path:
    """The file of a space or a study: the library's if it has one of that name, else the path."""
    text = str(name_or_path)
    shipped = sorted(path.stem for path in library.glob("*.yaml"))
    if text in shipped:
        return library / f"{text}.yaml"
    path = (folder or Path()) / text
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return path
    remedy = f"give a .yaml file, or one of: {', '.join(shipped)}"
    raise ConfigError(key, f"no {kind} {text!r}", remedy)
