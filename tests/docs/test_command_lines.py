"""Every command line in README and documentation is one that `dynloss` takes."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from docs.generators.command_line import commands
from tests.pages import INCLUDED, PAGES, commands_in

COMMANDS = commands()
TYPED = [
    (page, *typed) for page, text in {**PAGES, **INCLUDED}.items() for typed in commands_in(text)
]


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
    return words[: len(name.split())] == name.split()


@pytest.mark.parametrize(("page", "typed", "whole"), TYPED)
def test_the_command_exists_with_its_options(page: str, typed: str, whole: bool) -> None:
    if typed in ("dynloss --version", "dynloss space"):
        return
    parsed(typed, whole=whole)


def test_there_are_many_and_of_every_command() -> None:
    assert len(TYPED) > 60
    lines = [typed.split() for _, typed, _ in TYPED]
    for name in COMMANDS:
        assert name.startswith("dynloss space") or any(starts(line, name) for line in lines), name


@pytest.mark.parametrize(
    "typed",
    [
        "dynloss rum quickstart",
        "dynloss run quickstart --dry",
        "dynloss run quickstart --out",
        "dynloss run",
        "dynloss status quickstart digits",
        "dynloss submit my.yaml --address http://127.0.0.1:8265",
    ],
)
def test_what_is_wrong_is_seen(typed: str) -> None:
    with pytest.raises(Exception, match=r"."):
        parsed(typed)
