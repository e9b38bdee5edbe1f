"""The examples below a command's help, a line each."""

from __future__ import annotations

__all__ = ["examples"]


def examples(*lines: str, note: str = "") -> str:
    """The Markdown of examples, for the terminal and for the reference.

    Args:
        lines: command lines between backticks, and what they do if that is not plain.
        note: what follows them.
    """
    if len(lines) == 1 and not note:
        return f"Example: {lines[0]}"
    items = [f"- {line}" for line in lines]
    return "\n\n".join(["Examples:", *items, *([f"\n{note}"] if note else [])])
