"""How fast: steps until a network reaches a given accuracy, in each arm, paired, and cut off where
it does not.

The accuracy is 90% of the way from guessing to where the slower-ending arm ends (the lower of the
two medians over fresh seeds), so that most networks of both arms reach it. A network's time is the
first evaluation at which its validation accuracy is there; one that never is counts as the whole
run. The mean of such times is the restricted mean time (Royston and Parmar 2013, BMC Med. Res.
Methodol. 13:152): it needs no guess of when the others would have arrived. Two arms are compared by
its paired difference, with a t interval over seeds or, if there are several, over searches.

Claims count all comparisons of the study (Holm) and the looks at its fresh seeds, as verdicts do.
And as there, where networks that never get there and were not seen could undo a claim, those pairs
are compared that do get there, and the claim is about them (see `evidence`).

So "slower but better" can be asked: an arm may take longer to get there and end higher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.setting_verdicts import verdicts_of
from studies.analysis.settings import by_setting, label_of
from studies.analysis.statistics.evidence import (
    Claim,
    CountedP,
    Evidence,
    claim_of,
    counted_p,
    evidence_of,
)
from studies.analysis.statistics.pairing import search_number
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair

__all__ = ["TARGET_SHARE", "Speed", "cards", "speed", "speeds_headline", "speeds_of"]

TARGET_SHARE = 0.9
"""How far from guessing to the lower end the accuracy to reach lies."""
_METRIC = keys.VALIDATION_ACCURACY
_MIN_EVALUATIONS = 5
_MAX_PANELS = 9
_IN_STEPS = {"better": "faster", "worse": "slower"}
_NEVER = 1e-9  # of a run: between what is left to networks that get there and that never do


@dataclass(frozen=True, eq=False)
class Speed:
    """Both arms on their way to one accuracy, at one setting.

    Args:
        pair: the arms.
        label: the setting in words; empty if the study has one.
        target: the accuracy.
        end: length of the run in steps.
        steps: (K,) of the evaluations.
        reached: (K,) for each arm, the share of networks that have been there by then.
        networks: how many each arm has.
        means: restricted mean time of each arm, in steps.
        several: whether a pair is a search, its networks averaged, rather than a seed.
        evidence: the share of the run that the arm's networks have left as they get there, less
            that of the reference's; one that never gets there has failed.
        counted: p values that count all comparisons of the study and the look; None: its own.
        compared: how many comparisons that counts.
    """

    pair: Pair
    label: str
    target: float
    end: int
    steps: np.ndarray
    reached: dict[str, np.ndarray]
    networks: dict[str, int]
    means: dict[str, float]
    several: bool
    evidence: Evidence
    counted: CountedP | None = None
    compared: int = 1

    @cached_property
    def claim(self) -> Claim:
        """What is claimed of the shares left."""
        return claim_of(self.evidence, higher_is_better=True, counted=self.counted, plans=False)

    @property
    def p(self) -> float:
        """The p value of the claim, adjusted for all comparisons and the look."""
        return self.evidence.everyone.p if self.counted is None else self.counted.of(self.claim)

    @property
    def difference(self) -> tuple[float, float, float]:
        """The arm's time less the reference's and the ends of its interval, in steps."""
        left = self.evidence.everyone
        return -self.end * left.mean, -self.end * left.high, -self.end * left.low

    @property
    def unseen(self) -> tuple[float, float]:
        """The ends, in steps, of the interval of the mean difference with networks that never get
        there and were not seen."""
        failed = self.evidence.failures_among(self.counted)
        assert failed is not None
        return -self.end * failed.high, -self.end * failed.low

    @property
    def slower(self) -> bool:
        """Whether the pair's first arm takes longer."""
        return self.claim.decision.outcome == "worse"

    @property
    def faster(self) -> bool:
        """Whether it takes less time."""
        return self.claim.decision.outcome == "better"

    @property
    def of_those_there(self) -> bool:
        """Whether the claim is about networks that get there alone."""
        return self.claim.of_trained

    def sentence(self, outcome: str | None = None) -> str:
        """What was found, in words.

        Args:
            outcome: the verdict on the arm, such as `better`, which is said beside its speed.
        """
        arm, reference = self.pair
        (mean, low, high), n = self.difference, self.evidence.everyone.n
        where = f"At {self.label}: to" if self.label else "To"
        claim = "slower" if self.slower else "faster" if self.faster else "not seen to differ"
        if self.claim.withheld in _IN_STEPS:
            claim = f"{_IN_STEPS[self.claim.withheld]} by these pairs alone, which more could undo"
        if self.of_those_there:
            some = self.evidence.trained
            claim += " (of networks that get there"
            if some is not None and some is not self.evidence.everyone:
                ends = (-self.end * value for value in (some.mean, some.high, some.low))
                claim += ": {:+,.0f} [{:+,.0f}, {:+,.0f}]".format(*ends)
            claim += ")"
        if outcome in ("better", "worse") and (self.slower or self.faster):
            joined = "but" if self.slower == (outcome == "better") else "and"
            claim += f", {joined} {outcome} at the end"
        what = "searches" if self.several else "fresh seeds"
        over = f"; p = {self.p:.2g} over {self.compared} (Holm)" if self.compared > 1 else ""
        counts = " and ".join(
            f"{round(self.reached[name][-1] * self.networks[name])} of {self.networks[name]}"
            for name in self.pair
        )
        steps, others = self.means[arm], self.means[reference]
        interval = f"[{low:+,.0f}, {high:+,.0f}], 95%" if low < high else "in every pair"
        return (
            f"{where} reach a validation accuracy of {self.target:.3f}, {arm} takes {steps:,.0f} "
            f"steps and {reference} {others:,.0f}, of {self.end:,}: {claim} "
            f"({mean:+,.0f} {interval}, "
            f"n = {n} {what}, paired; {counts} networks get there{over})."
        )

    def row(self) -> dict[str, object]:
        """The same as a row of a table."""
        return {
            "setting": self.label,
            "arm": self.pair.arm,
            "reference": self.pair.reference,
            "target": self.target,
            "arm_steps": self.means[self.pair.arm],
            "reference_steps": self.means[self.pair.reference],
            **dict(zip(("difference", "low", "high"), self.difference, strict=True)),
            "low_with_unseen": self.unseen[0],
            "high_with_unseen": self.unseen[1],
            "p_adjusted": self.p,
            "n": self.evidence.everyone.n,
            "arm_reached": float(self.reached[self.pair.arm][-1]),
            "reference_reached": float(self.reached[self.pair.reference][-1]),
            "end": self.end,
        }


def cards(tables: Tables, draw: DrawFunction[list[Speed]]) -> Iterator[Card]:
    """How fast the winners of each pair of arms are, on fresh seeds."""
    speeds = tables.cached(speeds_of)
    if not speeds:
        return
    latest, _ = tables.cached(verdicts_of)
    outcomes = {(verdict.test.pair, verdict.label): verdict.test.outcome for verdict in latest}
    sentences = [result.sentence(outcomes.get((result.pair, result.label))) for result in speeds]
    table = pd.DataFrame([result.row() for result in speeds])
    caption = (
        f"Share of networks that have reached {TARGET_SHARE:.0%} of the way from guessing to where "
        "the arm that ends lower ends, on fresh seeds. A network's time is the first evaluation "
        "there; where it never is, the whole run."
    )
    shown = speeds[:_MAX_PANELS]
    yield Card(
        "How fast",
        [Drawing("speed", speeds_headline(shown), caption, partial(draw, shown))],
        files={"speed.csv": table},
        paragraphs=sentences[:_MAX_PANELS],
        sentences=sentences,
    )


def speeds_headline(speeds: Sequence[Speed]) -> str:
    """What the figure of the arms on their way shows."""
    slower, faster = (sum(getattr(s, name) for s in speeds) for name in ("slower", "faster"))
    if len(speeds) == 1:
        (one,) = speeds
        claim = "is slower than" if slower else "is faster than" if faster else "against"
        return (
            f"On the way to accuracy {one.target:.3f}: {one.pair.arm} {claim} {one.pair.reference}"
        )
    return f"On the way: slower in {slower}, faster in {faster} of {len(speeds)} comparisons"


def speeds_of(tables: Tables) -> list[Speed]:
    """The speeds of a study: of each arm against the reference, at each setting."""
    speeds = []
    for of_pair in tables.against_reference:
        fresh = of_pair.fresh_networks
        for setting, rows in by_setting(fresh, of_pair.question.scientific) if len(fresh) else []:
            one = speed(
                rows,
                of_pair.curves,
                of_pair.question.pair,
                label_of(setting),
                chance=of_pair.question.chance,
                several=of_pair.searches > 1,
            )
            speeds += [] if one is None else [one]
    if not speeds:
        return []
    look = 1 if tables.latest_look is None else tables.number_of(tables.latest_look)
    adjusted = counted_p([result.evidence for result in speeds], None, method="holm", look=look)
    return [
        replace(result, counted=counted, compared=len(speeds))
        for result, counted in zip(speeds, adjusted, strict=True)
    ]


def speed(
    networks: pd.DataFrame,
    curves: pd.DataFrame,
    pair: Pair,
    label: str = "",
    *,
    chance: float = 0.0,
    several: bool = False,
) -> Speed | None:
    """How fast two arms are; None without curves of both, or of too few evaluations.

    Args:
        networks: rows of the members table on fresh seeds, of one setting.
        curves: the curves table.
        pair: the arms.
        label: the setting in words.
        chance: accuracy of guessing.
        several: whether the networks are of several searches, which are then compared.
    """
    by = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]
    if curves.empty or not {*by, keys.STEP, _METRIC} <= set(curves.columns):
        return None
    compared = networks[networks[keys.ARM].isin(list(pair))]
    rows = curves.merge(compared[[*by, keys.STEPS]], on=by)
    values = rows.pivot(index=by, columns=keys.STEP, values=_METRIC)
    present = {arm: values[values.index.get_level_values(keys.ARM) == arm] for arm in pair}
    if values.shape[1] < _MIN_EVALUATIONS or any(len(table) < 2 for table in present.values()):
        return None
    lower = min(float(table.ffill(axis=1).iloc[:, -1].median()) for table in present.values())
    if not lower > chance:
        return None
    target, end = chance + TARGET_SHARE * (lower - chance), int(rows[keys.STEPS].max())
    reached = values.ge(target).cummax(axis=1)  # has been there by then
    steps = values.columns.to_numpy()
    first = np.where(reached.any(axis=1), steps[reached.to_numpy().argmax(axis=1)], end)
    times = reached.index.to_frame(index=False).assign(
        time=first.astype(float), gets_there=reached.any(axis=1).to_numpy()
    )
    unit = search_number(times) if several else times[keys.SEED]
    paired = times.groupby([unit.rename("unit"), keys.ARM])["time"].mean().unstack().dropna()
    if len(paired) < 2:
        return None
    return Speed(
        pair=pair,
        label=label,
        target=target,
        end=end,
        steps=steps,
        reached={
            arm: reached[reached.index.get_level_values(keys.ARM) == arm].mean(axis=0).to_numpy()
            for arm in pair
        },
        networks={arm: len(table) for arm, table in present.items()},
        means={arm: float(paired[arm].mean()) for arm in pair},
        several=several,
        evidence=_evidence(times.assign(unit=unit), paired, pair, end, several=several),
    )


def _evidence(
    times: pd.DataFrame, paired: pd.DataFrame, pair: Pair, end: int, *, several: bool
) -> Evidence:
    """The share of the run that is left to networks as they get there: 0 to one that never does,
    which then counts as one that failed, and next to 0 to one that does at the last evaluation."""
    index = ["unit", keys.SEED, keys.ARM]
    share = (1 - times["time"] / end).clip(lower=2 * _NEVER).where(times["gets_there"], 0.0)
    left = times.assign(left=share).set_index(index)["left"].unstack().dropna()
    compared = ((paired[pair.reference] - paired[pair.arm]) / end).to_numpy(dtype=float)
    return evidence_of(
        left,
        pair,
        is_accuracy=True,
        compared=compared if several else None,
        searches=list(left.index.get_level_values("unit")) if several else None,
        below=_NEVER,
    )
