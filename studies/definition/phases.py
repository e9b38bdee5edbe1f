"""The phases of a study: its searches, and the finals and rounds of confirmation of each.

Blocks, tables, runs and files name them `search`, `finals`, `confirm`, `confirm-2`, ...; those of a
second search `search.2`, `confirm.2`, `confirm-2.2`, and so on.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from dynloss_core import keys

__all__ = ["Phase"]

_NUMBER = "([2-9]|[1-9][0-9]+)"
_NAME = re.compile(rf"({keys.SEARCH}|{keys.FINALS}|{keys.CONFIRM})(?:-{_NUMBER})?(?:\.{_NUMBER})?")


class Phase(NamedTuple):
    """One phase.

    Args:
        kind: `search`, `finals` or `confirm`.
        round: the number of the finals, or of the round of confirmation, from 1.
        search: the number of the search, from 1.
    """

    kind: str
    round: int = 1
    search: int = 1

    def __str__(self) -> str:
        name = self.kind if self.round == 1 else f"{self.kind}-{self.round}"
        return name if self.search == 1 else f"{name}.{self.search}"

    @staticmethod
    @cache
    def parse(name: str) -> Phase:
        """The phase of a name.

        Raises:
            ValueError: if it names none.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} names no phase")
        kind, number, search = match.groups()
        return Phase(kind, int(number or 1), int(search or 1))

    @property
    def is_search(self) -> bool:
        """Whether points are searched."""
        return self.kind == keys.SEARCH

    @property
    def is_fresh(self) -> bool:
        """Whether winners are rerun on fresh seeds, and so on the test set; all else chooses, on
        validation data alone."""
        return self.kind == keys.CONFIRM
