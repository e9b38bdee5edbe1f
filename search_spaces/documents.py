"""YAML documents read strictly: `safe_load` only, no duplicate keys, no silent surprises."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dynloss_core.config import ConfigError

__all__ = ["parse_document", "read_document"]


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which would let the last of two equal keys win, made to refuse them."""

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
    """The value of a YAML text.

    Raises:
        ConfigError: if it is not YAML, or holds duplicate keys.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a subclass of SafeLoader
    except ConfigError as error:
        raise error.inside(source=source) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"not valid YAML: {error.problem or error.context}"
        raise ConfigError(where, problem, "fix the syntax there", source) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = f"not valid YAML: {error}"
        raise ConfigError("", problem, "write plain YAML text", source) from None


def read_document(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: if the file cannot be read, or is not one mapping.
    """
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("", "no such file", "check the path", source) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError("", problem, "give a readable UTF-8 text file", source) from None
    document = parse_document(text, source)
    if not isinstance(document, dict):
        raise ConfigError("", "expected `key: value` lines", "see the README for a file", source)
    return document
