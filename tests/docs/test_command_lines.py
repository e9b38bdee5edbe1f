"""Every command line in README and documentation is one that `dynloss` takes."""

from __future__ import annotations

import pytest

from tests.pages import INCLUDED, PAGES, commands_in
from tests.typed_commands import COMMANDS, parsed, starts

TYPED = [
    (page, *typed) for page, text in {**PAGES, **INCLUDED}.items() for typed in commands_in(text)
]


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
