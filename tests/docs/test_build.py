"""The documentation is built, as `make docs` does it, and its links are followed."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT
from tests.services import SECONDS


@pytest.mark.slow
def test_it_builds_without_a_warning_and_no_link_is_broken(tmp_path: Path) -> None:
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", tmp_path / "kept"]
    command = [sys.executable, "-m", "sphinx", *options, ROOT / "docs", tmp_path / "html"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    built = tmp_path / "html"
    for page in PAGES:
        if page.startswith("docs/"):
            assert (built / page.removeprefix("docs/")).with_suffix(".html").exists(), page
    pages = sorted(built.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"]+)"', page.read_text()):
            path, _, heading = link.partition("#")
            if re.match(r"\w+:|//", link):
                continue
            target = (page.parent / path.partition("?")[0]) if path else page
            assert target.exists(), (page, link)
            assert not heading or heading in names_in(target), (page, link)


@cache
def names_in(page: Path) -> set[str]:
    """What a link may lead to inside a page."""
    return set(re.findall(r'\bid="([^"]+)"', page.read_text()))
