"""Docstrings are mostly plain text. Here they become the reStructuredText that Sphinx expects."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["as_restructured_text"]

_CODE = re.compile(r"(:\w+:)?(`+)(.+?)\2")
_MARKUP = re.compile(r"(?<!\\)([*|])|(?<=\w)_(?=\W|$)")


def as_restructured_text(
    app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Change the lines in place: text in backticks is code, and no other sign is markup.

    Directives, such as formulas, and examples stay as they are.
    """
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")  # else napoleon takes what stands before a colon for a type
    inside: int | None = None  # indentation of the directive that the lines belong to
    for number, line in enumerate(lines):
        indentation = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indentation <= inside:
            inside = None
        if line.lstrip().startswith(".. "):
            inside = indentation
        if inside is None and not line.lstrip().startswith((">>>", "...")):
            lines[number] = _line(line)


def _line(line: str) -> str:
    pieces, end = [], 0
    for code in _CODE.finditer(line):
        pieces.append(_plain(line[end : code.start()]))
        pieces.append(code[0] if code[1] else f"``{code[3]}``")  # a role keeps its name
        end = code.end()
    return "".join([*pieces, _plain(line[end:])])


def _plain(text: str) -> str:
    return _MARKUP.sub(lambda sign: f"\\{sign[0]}", text)
