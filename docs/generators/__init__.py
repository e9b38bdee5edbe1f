"""Pages of the documentation that are made when it is built, of what the code itself says.

A page says where with a line of its own, such as `<!-- generated: keys study -->`. The pages of
single studies are files, since each has an address; git ignores them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx

from docs.generators.both_sides import both_sides
from docs.generators.command_line import command_line
from docs.generators.docstrings import as_restructured_text
from docs.generators.file_keys import keys_of_file
from docs.generators.levels import levels
from docs.generators.public_names import public_names
from docs.generators.result_pages import result_pages, results_table

__all__ = ["PARTS", "fill", "setup"]

PARTS: dict[str, Callable[..., str]] = {
    "names": public_names,
    "keys": keys_of_file,
    "command-line": command_line,
    "levels": levels,
    "results-table": results_table,
    "both-sides": both_sides,
}
"""What a line may ask for, and what makes it."""

_PLACE = re.compile(r"^<!-- generated: ([a-z-]+)(?: (\S+))? -->$", re.MULTILINE)


def fill(text: str) -> str:
    """A page with its generated parts.

    Raises:
        KeyError: if it asks for one that nothing makes.
    """
    return _PLACE.sub(lambda place: PARTS[place[1]](*filter(None, place.groups()[1:])), text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", _write_result_pages)
    app.connect("source-read", _fill_page)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_result_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "results" / "studies"
    folder.mkdir(exist_ok=True)
    pages = result_pages()
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _fill_page(app: Sphinx, page: str, source: list[str]) -> None:
    if _PLACE.search(source[0]):
        app.env.note_reread()  # what it is made of changes without the page
    source[0] = fill(source[0])
