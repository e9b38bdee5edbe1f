"""Text for the terminal, shown as it is.

Paths, names, descriptions and errors come from elsewhere: in none of them is anything markup, an
emoji code or an escape sequence of the terminal, and a terminal that lacks a character gets its
code instead.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dynloss_core.config import printable
from dynloss_core.own_command import own_command
from studies.out_folder import store_address

__all__ = [
    "DEFAULT_OUT",
    "UI_PORT",
    "PlainConsole",
    "repeat_command",
    "brief",
    "console",
    "duration",
    "notes",
    "paragraph",
    "point_in_words",
    "question_in",
    "replace_what_cannot_be_shown",
    "say",
    "starting",
]

DEFAULT_OUT = Path("results")
"""The output folder where none is named."""
UI_PORT = 5000
"""Of `dynloss ui`, unless told otherwise; reports link to it, unless their reader gives another."""


_WIDE = 300  # characters
_LABEL = 10  # characters, of what stands before a line
_FEWEST = 20  # characters of a line


class PlainConsole(Console):
    """A console that interprets nothing in the text it is given, be it a line or a table's cell;
    what is to be bold or coloured is said with `style`.

    Args:
        stderr: whether it writes to standard error.
        soft_wrap: whether lines longer than the terminal are left to it.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = True) -> None:
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
        )
        if not self.is_terminal:  # a file or a pipe gets its tables whole
            self.width = max(self.width, _WIDE)

    def render_str(self, text: str, **options: Any) -> Text:
        """What Rich makes of each string that it is to show."""
        return super().render_str(printable(text), **options)


console = PlainConsole()
"""Standard output."""

notes = PlainConsole(stderr=True)
"""Standard error. What is shown there while a study runs stays below what is printed on it."""


def paragraph(
    text: str,
    *,
    style: str | None = None,
    indent: int = 0,
    label: str = "",
    to: Console = console,
) -> None:
    """A sentence or more, in lines of whole words where there is a terminal.

    Args:
        text: what is said.
        style: how it looks.
        indent: spaces before its first line; the others have twice as many.
        label: what stands before it in its first line; the others begin below its beginning.
        to: where it is printed; standard output by default.
    """
    _in_whole_words(to, text, style, indent, f"{label:<{_LABEL}} " if label else "")


def say(text: str, *, whole: bool = False) -> None:
    """Something for the user that is not part of the answer, likewise.

    Args:
        text: what is said.
        whole: whether it is one line, whatever its length: with a command to be pasted.
    """
    if whole:
        notes.print(text)
    else:
        _in_whole_words(notes, text)


def _in_whole_words(
    to: Console, text: str, style: str | None = None, indent: int = 0, label: str = ""
) -> None:
    first_start, start = f"{'':{indent}}{label}", " " * (2 * indent + len(label))
    if not to.is_terminal:
        to.print(f"{first_start}{text}", style=style, soft_wrap=True)
        return
    first, *rest = to.render_str(text).wrap(to, max(to.width - len(start), _FEWEST)) or [Text()]
    to.print(Text.assemble(first_start, first), style=style)
    for line in rest:
        to.print(Text.assemble(start, line), style=style)


@contextmanager
def starting(what: str, *, quiet: bool = False) -> Iterator[None]:
    """While the suite is imported, which takes seconds, a terminal says what starts."""
    if quiet or not notes.is_interactive:
        yield
        return
    with notes.status(Text(f"starting {printable(what)}"), spinner="line"):
        yield


def replace_what_cannot_be_shown() -> None:
    """Let standard output and error write `\\xb5` where their encoding has no µ."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def duration(seconds: float) -> str:
    """`75` as `1m15s`."""
    whole = round(max(seconds, 0))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def brief(value: object) -> str:
    """A value with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def point_in_words(point: Mapping[str, object]) -> str:
    """`period 300, amplitude 20`."""
    return ", ".join(f"{name} {brief(value)}" for name, value in point.items())


def question_in(description: str) -> str:
    """A description up to its first question mark; its first sentence if it asks nothing."""
    question, mark, _ = description.partition("?")
    return question + mark if mark else description.partition(". ")[0]


def repeat_command(arguments: Sequence[str], out: Path, address: str | None = None) -> str:
    """A `dynloss` command to type again, in the shell that this one was typed in.

    Args:
        arguments: the arguments of `dynloss`.
        out: output folder, named if it is not the default.
        address: the address of a Ray cluster, if there is one.
    """
    words = list(arguments)
    words += (
        []
        if out.absolute() == DEFAULT_OUT.absolute()
        else ["--out", store_address(out) or str(out)]
    )
    words += [] if address is None else ["--address", address]
    return own_command(*words)
