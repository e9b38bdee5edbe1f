"""The commands with their arguments and options, as `--help` has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from studies.cli.app import app
from studies.cli.commands import COMMANDS

__all__ = ["command_line", "commands"]


def commands() -> dict[str, Any]:
    """Every command, from Typer's own objects, by what one types for it."""
    assert COMMANDS, "their import has added them"
    return dict(_below(typer.main.get_command(app), "dynloss"))


def command_line() -> str:
    """A section per command."""
    return "\n".join(_section(words, command) for words, command in commands().items())


def _below(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name in sorted(inner, key=lambda name: (hasattr(inner[name], "commands"), name)):
        yield from _below(inner[name], f"{words} {name}")


def _section(words: str, command: Any) -> str:
    context = command.context_class(command, info_name=words)
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    parts = [f"## `{words}`\n", f"{_paragraphs(command.help)}\n", f"```text\n{usage}\n```\n"]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            spelled, said = (" ".join(text.split()) for text in record)
            if parameter.param_type_name == "argument":
                spelled = re.sub(r" <.*>$", "", spelled)  # its type
            parts.append(f"`{spelled}`\n: {_plain(said) or 'See above.'}\n")
    if command.epilog:
        parts.append(f"{command.epilog}\n")
    return "\n".join(parts)


def _plain(text: str) -> str:
    """Brackets are what Typer adds (`[default: 5]`), and no link."""
    return text.replace("[", r"\[").replace("]", r"\]")


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))
