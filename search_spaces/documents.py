"""YAML documents read strictly: plain values only, no duplicate keys, no silent surprises.

What is a number, true or nothing is read by the core schema of YAML 1.2 (section 10.3): `1e-4` is a
number and `no` a word. PyYAML follows YAML 1.1, which has it the other way round.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dynloss_core.config import ConfigError, show

__all__ = ["dump_document", "find_document", "locating", "meant", "parse_document", "read_document"]

_MAX_FILE_BYTES = 1_000_000
_MAX_VALUES = 100_000  # with every alias written out
_MAX_DEPTH = 50


_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, by YAML 1.2, except that duplicate keys are refused: there, the last
    one wins."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  its own, and none of its parent's

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node)).replace("_", "")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(str(key), f"duplicate key on line {line}", "keep one of the two")
            seen.add(key if isinstance(key, Hashable) else repr(key))
        return super().construct_mapping(node, deep=deep)


class _StrictDumper(yaml.SafeDumper):
    """Its counterpart, which quotes what either version of YAML would not read as text."""


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
for _class in (_StrictLoader, _StrictDumper):
    for _tag, (_pattern, _first) in _PLAIN.items():
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
        )


def dump_document(document: Any) -> str:
    """A document as YAML text that `parse_document` reads back."""
    return str(yaml.dump(document, Dumper=_StrictDumper, sort_keys=False))


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
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:
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
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            limit = f"{_MAX_VALUES:,} values, {_MAX_DEPTH} levels"
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
            text = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        raise ConfigError("", "no such file", "check the path", source) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError("", problem, "give a readable UTF-8 text file", source) from None
    if len(text) == _MAX_FILE_BYTES:
        raise ConfigError("", "is too large", "give a file of less than a megabyte", source)
    document = parse_document(text, source)
    if not isinstance(document, dict):
        raise ConfigError(
            "", "expected `key: value` lines", "see docs/how-to/write-a-study.md", source
        )
    return document


@contextmanager
def locating(path: Path, profile: str | None = None) -> Iterator[None]:
    """Add the line to a refusal of what is in a file.

    Args:
        path: the file, as the refusal names it.
        profile: the profile whose entries stand for others of the file.
    """
    try:
        yield
    except ConfigError as error:
        if error.source != str(path) or not error.key:
            raise
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
        parts = re.findall(r"\[\d+\]|[^.\[\]]+", error.key)
        homes = [[], ["space", "parameters"]]  # a value of a searched parameter may be the culprit
        if profile is not None:
            homes = [["profiles", profile, *home] for home in homes] + homes
        whole = (_place(root, [*home, *parts], len(home) + len(parts)) for home in homes)
        line = next(filter(None, whole), None) or _place(root, parts, 1)
        if line is None:
            raise
        source = f"{path}:{line}"
        raise ConfigError(error.key, error.problem, error.remedy, source) from None


def _place(node: yaml.Node | None, parts: list[str], at_least: int) -> int | None:
    """The line, from 1, of a key or of as much of it as is there; None if that is less."""
    line, taken = None, 0
    while taken < len(parts):
        rest, matched = parts[taken:], None
        if isinstance(node, yaml.MappingNode):
            names = {str(key.value): (key, value) for key, value in node.value}
            ends = range(len(rest), 0, -1)  # `model.width` is one key of a space
            matched = next((end for end in ends if ".".join(rest[:end]) in names), None)
            if matched is not None:
                key, node = names[".".join(rest[:matched])]
                line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and rest[0].strip("[]").isdigit():
            index = int(rest[0].strip("[]"))
            if index < len(node.value):
                node, matched = node.value[index], 1
                line = node.start_mark.line + 1
        if matched is None:
            break
        taken += matched
    return line if taken >= at_least else None


def find_document(
    kind: str,
    name_or_path: str | Path,
    library: Path,
    lists: str,
    folder: Path | None = None,
    key: str = "",
) -> Path:
    """The file of a space or a study: the library's if it has one of that name, else the path.

    Args:
        kind: what it is, for the refusal.
        name_or_path: its name, or the path of its file.
        library: the folder of those that ship.
        lists: the command that lists them.
        folder: the folder that a relative path starts from.
        key: where it is named in an enclosing document.

    Raises:
        ConfigError: if the library has none of that name and it is the path of no file.
    """
    text = str(name_or_path)
    shipped = sorted(path.stem for path in library.glob("*.yaml"))
    if text in shipped:
        return library / f"{text}.yaml"
    path = (folder or Path()) / text
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return path
    remedy = f"{meant(text, shipped)}give a .yaml file, or a name that `{lists}` shows"
    raise ConfigError(key, f"no {kind} {text!r}", remedy)


def meant(name: str, known: Iterable[str]) -> str:
    """`did you mean 'a' or 'b'? Or `, with at most three names; empty if none is close."""
    close = [repr(match) for match in difflib.get_close_matches(name, sorted(set(known)), n=3)]
    if not close:
        return ""
    names = " or ".join(filter(None, [", ".join(close[:-1]), close[-1]]))
    return f"did you mean {names}? Or "
