"""What a study asks: what its analysis must know in addition to the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynloss_core.oscillation import oscillation_stop
from search_spaces import Space
from studies.analysis.looks import Look
from studies.definition.arms import Pair

__all__ = ["Question", "stop_of"]


def stop_of(steps: float, tail: float, period: float) -> int:
    """The step from which class weights of this period are constant.

    Args:
        steps: length of the run.
        tail: share of the run, at its end, that trains statically.
        period: T in steps.
    """
    return oscillation_stop(int(steps), round(tail * int(steps)), int(period))


@dataclass(frozen=True)
class Question:
    """What the tables do not say.

    Args:
        objective: static validation metric that points are chosen by.
        spaces: searched space of each arm.
        pairs: pairs of arms that are compared.
        ladder: arms in the order of a ladder, with neighbours among the pairs; empty without one.
        scientific: searched parameters of the problem that the study asks about.
        adaptive: whether proposals depended on results.
        margin: the margin of equivalence, in the objective's unit.
        attainable: the best training accuracy that the data allow.
        tail: share of the run, at its end, that trains statically.
        epochs: length of the run, if the spaces give the period in epochs.
        chance: accuracy of guessing; 0 if the number of classes is unknown.
        fails_below: accuracy below which a network failed, as set in the study; None: the default.
        nesterov: arms that train with Nesterov's momentum.
        watched: whether instabilities were looked for in the recorded runs.
        refining: number of trials of each arm in its refinement, after those that cover its space.
        one_split: whether all seeds share one split of one data set.
        matched: names of the matched arms that fresh seeds are trained for (see
            `Study.matched_arms`).
        looks: the looks at the study before something was added to it, as its folder has them (see
            `studies.analysis.looks`); in `Tables`, all of them.
    """

    objective: str
    spaces: Mapping[str, Space]
    pairs: tuple[Pair, ...] = (Pair(),)
    ladder: tuple[str, ...] = ()
    scientific: tuple[str, ...] = ()
    adaptive: bool = False
    margin: float | None = None
    attainable: float = 1.0
    tail: float = 0.0
    epochs: float | None = None
    chance: float = 0.0
    fails_below: float | None = None
    nesterov: tuple[str, ...] = ()
    watched: bool = False
    refining: Mapping[str, range] = field(default_factory=dict)
    one_split: bool = False
    matched: tuple[str, ...] = ()
    looks: tuple[Look, ...] = ()

    @property
    def pair(self) -> Pair:
        """The first pair; in the tables of one pair (see `Tables.of_pairs`), the only one."""
        return self.pairs[0] if self.pairs else Pair()
