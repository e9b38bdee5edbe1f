"""README and documentation as tests read them: their text, their blocks of code, their commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["INCLUDED", "PAGES", "ROOT", "block_of", "blocks", "commands_in", "every_block"]

ROOT = Path(__file__).parents[1]
_MADE = (ROOT / "docs" / "_build", ROOT / "docs" / "results" / "studies")
_BLOCK = re.compile(r"^```([a-z]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NO_COMMAND = re.compile(r"[|`{}]|COMMAND")  # `dynloss space list | show`: names of several

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not any(path.is_relative_to(folder) for folder in _MADE)
}
"""The text of README and pages, by path from the root; pages that are made are not among them."""

INCLUDED = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "CONTRIBUTING.md",
        "studies/deploy/README.md",
        "studies/deploy/SCALING.md",
        "studies/results/README.md",
        "tests/calibration/README.md",
        "tests/gpu/README.md",
    )
}
"""What pages include, and show as their own."""


def blocks(page: str, language: str) -> list[str]:
    """The blocks of one page in one language, in order."""
    return _blocks(PAGES[page], language)


def every_block(language: str) -> list[tuple[str, str]]:
    """The blocks of all pages in one language, each with its page."""
    return [(page, text) for page in PAGES for text in blocks(page, language)]


def block_of(language: str, part: str) -> str:
    """The one block of README and pages that has a part, wherever it stands."""
    (text,) = {text for _, text in every_block(language) if part in text}
    return text


def _blocks(page: str, language: str) -> list[str]:
    return [text for name, text in _BLOCK.findall(page) if name == language]


def commands_in(page: str) -> Iterator[tuple[str, bool]]:
    """Command lines in a page's text, and whether each is whole: from a block, not a sentence."""
    for language in ("sh", "bash", "console"):
        for text in _blocks(page, language):
            for line in text.replace("\\\n", " ").splitlines():
                typed = line.strip().removeprefix("$ ")
                if typed.startswith("dynloss "):
                    yield typed, True
    prose = " ".join(_BLOCK.sub(" ", page).split())
    for typed in re.findall(r"(?<!`)`(dynloss [^`]+)`(?!`)", prose):
        if not _NO_COMMAND.search(typed):
            yield typed, False
