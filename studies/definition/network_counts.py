"""How many trials and networks a study has: counted, and worded, in one way wherever it is said.

A trial is a point of a search; its networks are one per seed. Networks in finals and on fresh seeds
are of points that were chosen, and so of no further trial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dynloss_core import keys
from studies.definition.phases import Phase

__all__ = ["NetworkCounts", "counted", "in_short"]


@dataclass(frozen=True)
class NetworkCounts:
    """Trials and networks that have been trained.

    Args:
        trials: points that were searched.
        searched: their networks.
        finals: networks of finalists, on new seeds.
        fresh: networks of winners, and of points beside them, on fresh seeds.
    """

    trials: int = 0
    searched: int = 0
    finals: int = 0
    fresh: int = 0

    @classmethod
    def of_phases(cls, networks: Mapping[str, int], trials: Mapping[str, int]) -> NetworkCounts:
        """Counts from those of each phase.

        Args:
            networks: networks, by the name of the phase.
            trials: points; those of other phases than searches are left out.
        """
        of_kind: Counter[str] = Counter()
        for name, count in networks.items():
            of_kind[Phase.parse(name).kind] += count
        points = sum(count for name, count in trials.items() if Phase.parse(name).is_search)
        return cls(points, of_kind[keys.SEARCH], of_kind[keys.FINALS], of_kind[keys.CONFIRM])

    @property
    def networks(self) -> int:
        """All networks."""
        return self.searched + self.finals + self.fresh

    def by_name(self) -> dict[str, int]:
        """The numbers by the names that they have in MLflow; a kind that a study lacks has none."""
        kinds = {
            "trials": self.trials,
            "networks_searched": self.searched,
            "networks_in_finals": self.finals,
            "networks_on_fresh_seeds": self.fresh,
        }
        return {"networks": self.networks, **{name: n for name, n in kinds.items() if n}}

    def of_networks(self) -> str:
        """`44: 32 searched, 12 on fresh seeds`; `34, all searched`."""
        return f"{self.networks:,}{self._by_kind()}"

    def _by_kind(self) -> str:
        kinds = {"searched": self.searched, "in finals": self.finals, "on fresh seeds": self.fresh}
        shown = {kind: count for kind, count in kinds.items() if count}
        if len(shown) == 1:
            return f", all {next(iter(shown))}"
        listed = ", ".join(f"{count:,} {kind}" for kind, count in shown.items())
        return f": {listed}" if listed else ""

    def short(self) -> str:
        """`16 trials, 44 networks`."""
        return in_short(self.trials, self.networks)

    def __str__(self) -> str:
        """`16 trials, 44 networks: 32 searched, 12 on fresh seeds`."""
        return f"{self.short()}{self._by_kind()}"


def in_short(trials: int, networks: int) -> str:
    """`16 trials, 44 networks`; `8 networks` where nothing was searched."""
    searched = [counted(trials, "trial")] if trials else []
    return ", ".join([*searched, counted(networks, "network")])


def counted(count: int, what: str) -> str:
    """`1 trial`, `1,200 trials`."""
    return f"{count:,} {what}{'s' * (count != 1)}"
