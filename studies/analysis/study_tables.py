"""The tables of a study, divided into the rows that its analyses ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd
from pandas.api.types import is_numeric_dtype

from dynloss_core import keys
from studies.analysis.looks import looks_of, name_of_look, seen
from studies.analysis.question import Question
from studies.analysis.statistics.pairing import counted, search_number
from studies.definition.arms import Pair, against_reference, matched_name
from studies.definition.early_stopping import is_stopped
from studies.definition.phases import Phase

__all__ = ["Tables"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Tables:
    """What an analysis is made from.

    Args:
        members: the members table, of at least one network.
        curves: the curves table; can be empty.
        question: what the tables do not say.
        recorded: further recorded tables by kind (see `studies.blocks.recorder.KINDS`).
        matched_members: rows of the members table for matched arms (see `Study.matched_arms`).
    """

    members: pd.DataFrame
    curves: pd.DataFrame
    question: Question
    recorded: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    matched_members: pd.DataFrame = field(default_factory=pd.DataFrame)
    _known: dict[Callable[[Tables], Any], Any] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls,
        members: pd.DataFrame,
        curves: pd.DataFrame,
        question: Question,
        recorded: Mapping[str, pd.DataFrame],
    ) -> Tables:
        """The tables of a study, with its matched arms set apart."""
        arms = list(question.spaces)
        beside = members[~members[keys.ARM].isin(arms)]
        own = {kind: _rows_of(arms, table) for kind, table in recorded.items()}
        question = replace(question, looks=looks_of(_rows_of(arms, members), question.looks))
        return cls(_rows_of(arms, members), _rows_of(arms, curves), question, own, beside)

    def cached(self, result_of: Callable[[Tables], T]) -> T:
        """A result that several analyses use, computed for the first of them."""
        if result_of not in self._known:
            self._known[result_of] = result_of(self)
        known: T = self._known[result_of]
        return known

    @cached_property
    def of_pairs(self) -> list[Tables]:
        """The tables of each pair of arms alone; these tables if there is no other arm, or if no
        arms are compared."""
        pairs = self.question.pairs
        if not pairs or set(self.question.spaces) <= set(pairs[0]):
            return [self]
        return [self._pair_tables(pair) for pair in pairs]

    @property
    def against_reference(self) -> list[Tables]:
        """The tables of the pairs that share the first one's reference."""
        shared = against_reference(self.question.pairs) or [self.question.pair]
        return [of_pair for of_pair in self.of_pairs if of_pair.question.pair in shared]

    def _pair_tables(self, pair: Pair) -> Tables:
        spaces = {arm: space for arm, space in self.question.spaces.items() if arm in pair}
        return Tables(
            _rows_of(pair, self.members),
            _rows_of(pair, self.curves),
            replace(self.question, pairs=(pair,), spaces=spaces),
            {kind: _rows_of(pair, table) for kind, table in self.recorded.items()},
            _rows_of([matched_name(pair)], self.matched_members),
        )

    @cached_property
    def matched(self) -> Tables | None:
        """For the tables of a single pair: its arm on fresh seeds against its matched arm; None if
        that was not trained."""
        pair, spaces = self.question.pair, self.question.spaces
        name = matched_name(pair)
        beside = _rows_of([name], self.matched_members)
        if beside.empty or pair.arm not in spaces or pair.reference not in spaces:
            return None
        is_fresh = _phase_mask(self.members, lambda phase: phase.is_fresh)
        fresh = self.members[is_fresh & (self.members[keys.ARM] == pair.arm)]
        question = replace(
            self.question,
            pairs=(Pair(pair.arm, name),),
            spaces={pair.arm: spaces[pair.arm], name: spaces[pair.reference]},
        )
        return Tables(pd.concat([fresh, beside]), pd.DataFrame(), question)

    @cached_property
    def search_with_stopped(self) -> pd.DataFrame:
        """Rows of the first search, including trials that were stopped early, which count only
        towards its health: everything else is about the end of training."""
        return self.members[self.members[keys.PHASE] == keys.SEARCH]

    @cached_property
    def unstopped(self) -> pd.DataFrame:
        """Rows of the networks that were not stopped early."""
        return self.members[~is_stopped(self.members)]

    @cached_property
    def search(self) -> pd.DataFrame:
        """Rows of the first search without stopped trials, the basis of everything that is not
        about fresh seeds."""
        return self.unstopped[self.unstopped[keys.PHASE] == keys.SEARCH]

    @cached_property
    def looks(self) -> dict[str, pd.DataFrame]:
        """The networks that each look compares (see `studies.analysis.looks`), in order, by its
        name. Looks without a pair are kept only if no look has one."""
        looks = self.question.looks or looks_of(self.members)
        rows = {
            name_of_look(number, looks): seen(look, self.unstopped)
            for number, look in enumerate(looks, start=1)
        }
        rows = {name: networks for name, networks in rows.items() if not networks.empty}
        paired = {name: each for name, each in rows.items() if each[keys.ARM].nunique() > 1}
        return paired or rows

    @property
    def latest_look(self) -> str | None:
        """The name of the latest look; None before a first round."""
        return next(reversed(self.looks), None)

    @property
    def compared(self) -> pd.DataFrame:
        """The rows that the latest verdicts compare (see `compared_in`); none without a round."""
        latest = self.latest_look
        return self.unstopped.iloc[:0] if latest is None else self.compared_in(latest)

    @property
    def fresh_networks(self) -> pd.DataFrame:
        """The networks behind the latest verdicts; none without a round."""
        latest = self.latest_look
        return self.unstopped.iloc[:0] if latest is None else self.looks[latest]

    @cached_property
    def searches(self) -> int:
        """How many searches there are."""
        return max(Phase.parse(str(name)).search for name in self.members[keys.PHASE].unique())

    def compared_in(self, look: str) -> pd.DataFrame:
        """What a look compares: its networks, seed by seed. With several searches, one row per
        search, arm and setting, with the search's number in place of a seed: a sample of searches,
        compared one by one (see `luck`)."""
        rows = self.looks[look]
        return rows if self.searches_in(look) == 1 else self.by_search(rows)

    def by_search(self, networks: pd.DataFrame) -> pd.DataFrame:
        """Networks as one row per search, arm and setting (see `compared_in`)."""
        return _by_search(networks, self.question)

    def searches_in(self, look: str) -> int:
        """How many searches a look is about: all of them; an earlier look, those it had."""
        if look == self.latest_look:
            return self.searches
        return int(search_number(self.looks[look]).nunique())

    @cached_property
    def rows_by_search(self) -> list[pd.DataFrame]:
        """Rows of each search that has begun, labelled as if it were the only one."""
        searches = search_number(self.members)[self.is_searched]
        rows = self.members[self.is_searched]
        return [
            rows[searches == number].assign(**{keys.PHASE: keys.SEARCH})
            for number in sorted(searches.unique())
        ]

    @cached_property
    def is_searched(self) -> pd.Series:
        """Whether a network belongs to a search."""
        return _phase_mask(self.members, lambda phase: phase.is_search)

    def number_of(self, look: str) -> int:
        """The number of a look, from 1."""
        return list(self.looks).index(look) + 1

    @property
    def sizes(self) -> list[str]:
        """Scientific parameters that are numbers, such as the size of the network."""
        return [name for name in self.question.scientific if is_numeric_dtype(self.unstopped[name])]

    @property
    def network_sizes(self) -> list[str]:
        """Those of them with which the number of trainable parameters grows."""
        return [name for name in self.sizes if _grows(self.unstopped, name)]

    @property
    def size(self) -> str | None:
        """The first parameter that sets the size; None if the study has one size."""
        return next(iter(self.sizes), None)


def _grows(members: pd.DataFrame, name: str) -> bool:
    """Whether networks have more parameters the larger a value is; where the table does not say,
    whether it is a value of the network."""
    if keys.PARAMETERS not in members or members[keys.PARAMETERS].isna().any():
        return name.startswith("model.")
    parameters = members.groupby(name)[keys.PARAMETERS].median().sort_index()
    return bool(parameters.is_monotonic_increasing and parameters.is_unique)


def _phase_mask(members: pd.DataFrame, asked: Callable[[Phase], bool]) -> pd.Series:
    """Whether each network's phase has the property asked for."""
    return members[keys.PHASE].map(lambda name: asked(Phase.parse(str(name))))


def _by_search(networks: pd.DataFrame, question: Question) -> pd.DataFrame:
    """One row per search, arm and setting: means over the fresh seeds, with accuracy 0 for a
    diverged network, and the search's number in place of a seed."""
    metrics = [
        name
        for name in (*keys.EVALUATION_METRICS, *keys.TEST_METRICS)
        if name in networks and is_numeric_dtype(networks[name])
    ]
    values = networks.assign(**{name: counted(networks, name) for name in metrics})
    values[keys.SEED] = search_number(networks)
    by = [keys.SEED, *question.scientific, keys.ARM]
    grouped = values.groupby(by, sort=False)
    rows = grouped.first().assign(**{name: grouped[name].mean() for name in metrics})
    rows[keys.DIVERGED], rows[keys.PHASE] = False, keys.CONFIRM
    return rows.reset_index()[[name for name in networks.columns if name in {*rows.columns, *by}]]


def _rows_of(arms: Collection[str], table: pd.DataFrame) -> pd.DataFrame:
    return table[table[keys.ARM].isin(list(arms))] if keys.ARM in table else table
