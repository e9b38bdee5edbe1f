"""Analyses of one's own, from a Python file: they look at a study, and change nothing in it.

The file has a mapping `ANALYSES` of functions by name. Each takes the study's tables and gives
cards (see `study_tables.Tables` and `card.Card`), as the suite's own analyses do; an exception in
one of them is a refusal that names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from dynloss_core.config import ConfigError
from dynloss_core.plugins import failure_in, run_file
from studies.analysis.card import Card
from studies.analysis.study_tables import Tables

__all__ = ["Cards", "read_analyses"]

P = ParamSpec("P")
R = TypeVar("R")
Cards = Callable[[Tables], Iterable[Card]]


def read_analyses(path: Path) -> dict[str, Cards]:
    """The analyses that a file defines, by name.

    Raises:
        ConfigError: if it does not run, or defines none.
    """
    source = str(path)
    defined = vars(run_file(path)).get("ANALYSES")
    remedy = 'write ANALYSES = {"name": function}, of functions from Tables to cards'
    if not isinstance(defined, Mapping) or not defined:
        raise ConfigError("", "defines no analysis", remedy, source)
    for name, function in defined.items():
        if not isinstance(name, str) or not callable(function):
            raise ConfigError("", f"ANALYSES[{name!r}] is not a function", remedy, source)
    return {name: partial(_cards, function, name, source) for name, function in defined.items()}


def _cards(function: Cards, name: str, source: str, tables: Tables) -> Iterator[Card]:
    """What an analysis gives, checked, with its failures told."""
    told = partial(_telling, name=name, source=source)
    found = told(lambda: list(function(tables)))()
    for card in found:
        if not isinstance(card, Card):
            problem = f"the analysis {name!r} gives a {type(card).__name__}"
            raise ConfigError("", problem, "let it yield studies.analysis.card.Card", source)
        yield replace(card, drawings=[drawing.wrapped(told) for drawing in card.drawings])


def _telling(function: Callable[P, R], *, name: str, source: str) -> Callable[P, R]:
    @wraps(function)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ConfigError:
            raise
        except Exception as error:
            problem, where = failure_in(error, source)
            problem = f"the analysis {name!r} fails: {problem}"
            raise ConfigError("", problem, "correct it there", where) from None

    return telling
