"""Command lines of `dynloss` as its parser takes them."""

from __future__ import annotations

import shlex
from typing import Any

from docs.generators.command_line import commands

__all__ = ["COMMANDS", "parsed", "starts"]

COMMANDS = commands()
"""The commands, by name."""


def parsed(typed: str, *, whole: bool = True) -> dict[str, Any]:
    """What the command's parser makes of a line; nothing is run.

    Raises:
        LookupError: for a command that there is not.
        Exception: of the parser, for an option that there is not, or a missing argument.
    """
    words = shlex.split(typed, comments=True)
    for sign in (">", "&", "&&"):
        words = words[: words.index(sign)] if sign in words else words
    name = next(
        (name for name in sorted(COMMANDS, key=len, reverse=True) if starts(words, name)), None
    )
    if name is None:
        raise LookupError(typed)
    command = COMMANDS[name]
    context = command.context_class(command, info_name=name)
    values, rest, _ = command.make_parser(context).parse_args(words[len(name.split()) :])
    if rest:
        raise ValueError(f"{typed}: {rest} is left over")
    if whole:
        lost = [each.name for each in command.params if each.required and not values.get(each.name)]
        if lost:
            raise ValueError(f"{typed}: lacks {lost}")
    return dict(values)


def starts(words: list[str], name: str) -> bool:
    """Whether the words of a line begin with a command's name."""
    return words[: len(name.split())] == name.split()
