"""What README, guide and documentation link to is there; the build checks headings as well."""

from __future__ import annotations

import re

import pytest

from tests.pages import INCLUDED, PAGES, ROOT

TEXTS = {**PAGES, **INCLUDED}
WORDS_OF_TEN_MINUTES = 2500
WORDS_OF_README = 700


@pytest.mark.parametrize("page", TEXTS)
def test_relative_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^:.*", "", TEXTS[page], flags=re.MULTILINE)  # less the options of directives
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path = link.partition("#")[0]
        if not re.match(r"\w+:", link) and path:
            assert (ROOT / page).parent.joinpath(path).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_a_page_takes_at_most_ten_minutes(page: str) -> None:
    assert len(PAGES[page].split()) <= WORDS_OF_TEN_MINUTES


def test_the_readme_is_short_and_has_one_picture() -> None:
    readme = PAGES["README.md"]
    assert len(readme.split()) <= WORDS_OF_README
    assert readme.count("![") == 1


def test_every_page_is_in_a_table_of_contents() -> None:
    """Also said by the build; here it takes no time."""
    listed = {"docs/index.md", "README.md"}
    for page, text in PAGES.items():
        for entries in re.findall(r"^```{toctree}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            listed |= {str(((ROOT / page).parent / f"{n}.md").relative_to(ROOT)) for n in names}
    assert set(PAGES) <= listed
