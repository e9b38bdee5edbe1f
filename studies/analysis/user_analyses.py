"""A user's own analyses, from a Python file: they read a study, and change nothing in it.

The file has a mapping `ANALYSES` of functions by name. Each takes the study's tables and yields
cards (see `study_tables.Tables` and `card.Card`), like the suite's own analyses; an exception in
one of them becomes a refusal that names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from dynloss_core.config import ConfigError, show
from dynloss_core.plugins import Plugin, defined_in, definitions_in, failure_in
from studies.analysis.card import Card
from studies.analysis.study_tables import Tables
from studies.definition.installed_plugins import GROUPS, installed_plugin

__all__ = ["AnalysisError", "AnalysisFunction", "analyses_of", "read_analyses"]

P = ParamSpec("P")
R = TypeVar("R")
AnalysisFunction = Callable[[Tables], Iterable[Card]]


class AnalysisError(ConfigError):
    """A user's own analysis raised an exception, or yielded something other than cards."""


def analyses_of(plugins: Sequence[Plugin]) -> dict[str, AnalysisFunction]:
    """The analyses that a study's plug-ins define, by name."""
    return {
        name: partial(_cards, function, name, plugin.file)
        for plugin in plugins
        for kind, name, function in definitions_in(plugin)
        if kind == "analysis"
    }


def read_analyses(file_or_name: str) -> dict[str, AnalysisFunction]:
    """The analyses in a file, or the one that an installed package offers under a name.

    Raises:
        ConfigError: if there is none, or the file does not run.
    """
    path = Path(file_or_name)
    if path.suffix != ".py" and not path.exists():
        plugin = installed_plugin("analysis", file_or_name)
        if plugin is None:
            problem = f"no file, and no installed package offers it ({GROUPS['analysis']})"
            raise ConfigError("", problem, "give a Python file", file_or_name)
        return {file_or_name: analyses_of([plugin])[file_or_name]}
    functions = defined_in(path, "analysis")
    if not functions:
        remedy = 'write ANALYSES = {"name": function}, of functions from Tables to cards'
        raise ConfigError("", "defines no analysis", remedy, str(path))
    return {
        name: partial(_cards, function, name, str(path)) for name, function in functions.items()
    }


def _cards(function: AnalysisFunction, name: str, source: str, tables: Tables) -> Iterator[Card]:
    """The cards of an analysis, checked, with failures reported by line."""
    source = getattr(getattr(function, "__code__", None), "co_filename", source)
    named = partial(_naming_failures, name=name, source=source)
    cards = named(lambda: function(tables))()
    remedy = "yield studies.analysis.card.Card, or nothing"
    if not isinstance(cards, Iterable):
        raise AnalysisError("", f"the analysis {name!r} returns {show(cards)}", remedy, source)
    for card in named(lambda: list(cards))():
        if not isinstance(card, Card):
            raise AnalysisError("", f"the analysis {name!r} yields {show(card)}", remedy, source)
        yield replace(
            card,
            drawings=[drawing.wrapped(named) for drawing in card.drawings],
            warnings=[f"{card.title}: {warning}" for warning in card.warnings],
        )


def _naming_failures(function: Callable[P, R], *, name: str, source: str) -> Callable[P, R]:
    @wraps(function)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            problem, where = failure_in(error, source)
            problem = f"the analysis {name!r} fails: {problem}"
            raise AnalysisError("", problem, "correct it there", where) from None

    return named
