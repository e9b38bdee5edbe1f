"""What a study can show, before it starts, if its pairs scatter as expected."""

from __future__ import annotations

import math
from dataclasses import dataclass

from statsmodels.stats.power import TTestPower

from studies.analysis.statistics.equivalence import equivalence_power, seeds_for_equivalence
from studies.definition.confirm_seeds import FEWEST_PAIRS
from studies.definition.study import Study

__all__ = ["Power", "few_pairs", "power_of", "power_warnings"]

_ALPHA = 0.05
_WANTED_POWER = 0.9
_HOPELESS_POWER = 0.5


@dataclass(frozen=True)
class Power:
    """What the verdicts of a study can show.

    Args:
        n: number of pairs: fresh seeds of one search, or searches.
        unit: what a pair is: `fresh seeds` or `searches`.
        gain: the smallest mean difference for which `better` is claimed with 90% power.
        margin: the margin of equivalence; None without one.
        equivalence: the chance of showing equivalence if the arms do not differ; None without a
            margin.
        needed: number of pairs that would show it with 90% power; None: no number up to a million.
    """

    n: int
    unit: str
    gain: float
    margin: float | None
    equivalence: float | None
    needed: int | None

    @property
    def is_hopeless(self) -> bool:
        """Whether there is a margin, but equivalence will more likely than not be missed."""
        return self.equivalence is not None and self.equivalence < _HOPELESS_POWER

    def sentences(self) -> list[str]:
        """What to expect, one line each."""
        lines = [
            f"a gain of {self.gain:.2g} or more, "
            f"with {_WANTED_POWER:.0%} power at {self.n} {self.unit}"
        ]
        if self.equivalence is not None:
            text = f"equivalence within ±{self.margin:g} with {self.equivalence:.0%} power"
            if self.equivalence < _WANTED_POWER:
                more = "no number" if self.needed is None else f"{self.needed} {self.unit}"
                text += f"; {more} would show it with {_WANTED_POWER:.0%}"
            lines.append(f"{text}, if the arms do not differ")
        return lines


def power_of(study: Study) -> Power | None:
    """What a study can show; None if it gives no spread, or confirms nothing.

    Each comparison gets an equal share of the error (Bonferroni), the least that Holm leaves it.
    """
    if study.spread is None or not study.confirms() or not study.pairs:
        return None
    n, unit, sd = study.confirm_seeds, "fresh seeds", study.spread.seeds
    if study.searches > 1:
        n, unit = study.searches, "searches"
        sd = math.hypot(study.spread.searches, study.spread.seeds / math.sqrt(study.confirm_seeds))
    alpha = _ALPHA / len(study.pairs)
    size = TTestPower().solve_power(
        nobs=n, alpha=alpha, power=_WANTED_POWER, alternative="two-sided"
    )
    margin = study.equivalence_margin
    equivalence = needed = None
    if margin is not None:
        equivalence = equivalence_power(n, sd, 0.0, margin, alpha)
        needed = seeds_for_equivalence(sd, 0.0, margin, _WANTED_POWER, alpha)
    return Power(n, unit, float(size) * sd, margin, equivalence, needed)


def few_pairs(study: Study) -> str | None:
    """A warning where the fresh seeds of a study are too few for most claims (see `evidence`)."""
    pairs = study.searches * study.confirm_seeds
    if not study.confirms() or not study.pairs or pairs >= FEWEST_PAIRS:
        return None
    wanted = math.ceil(FEWEST_PAIRS / study.searches)
    return (
        f"{pairs} pairs of networks show little: with fewer than {FEWEST_PAIRS}, a claim is "
        f"withheld if failures that were not seen could undo it; `confirm_seeds: {wanted}` is "
        "enough"
    )


def power_warnings(study: Study) -> list[str]:
    """What a study will hardly show, before it starts: a sentence each."""
    power, warnings = power_of(study), []
    if power is not None and power.is_hopeless:
        short = power.sentences()[-1]
        warnings.append(f"this study can hardly show that the arms are equal: {short}")
    if few := few_pairs(study):
        warnings.append(few)
    return warnings
