"""The verdict on the networks of two arms: a paired test of their rows in the members table.

With one search, the pairs are its fresh seeds. With several, each with its own fresh seeds, a pair
is a search, with each arm's mean over its seeds.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from dynloss_core import keys
from studies.analysis.statistics.alpha_spending import level_of_look
from studies.analysis.statistics.comparison import Comparison
from studies.analysis.statistics.evidence import (
    CountedP,
    Evidence,
    claim_of,
    counted_p,
    evidence_of,
)
from studies.analysis.statistics.pairing import paired_by_seed, search_number
from studies.analysis.statistics.search_variance import SearchVariance, search_variance
from studies.analysis.statistics.verdict import ArmSummary, Verdict
from studies.definition.arms import Pair

__all__ = ["against_both", "differ_from_both", "evidence_of_rows", "judge"]


def against_both(own: Comparison, matched: Comparison | None, *, higher_is_better: bool) -> float:
    """The p value of the claim that an arm differs from its reference, if a gain must hold against
    the reference at both settings: the larger of the two p values (intersection-union test; Berger
    1982, Technometrics 24:295), which errs no more often than either."""
    if matched is None or (own.mean > 0) != higher_is_better:
        return own.p
    return max(own.p, matched.p if (matched.mean > 0) == higher_is_better else 1.0)


def differ_from_both(
    evidence: Evidence,
    matched: Evidence | None,
    *,
    higher_is_better: bool,
    is_missing: bool = False,
) -> tuple[float, float]:
    """The same of all networks, and of those that train.

    Args:
        evidence: the arm against its reference.
        matched: the arm against the reference at the arm's settings.
        higher_is_better: whether the metric is maximised.
        is_missing: whether the latter was to be trained, and was not on all seeds: then no gain is
            claimed.
    """

    def p_of(own: Comparison, beside: Comparison | None) -> float:
        if is_missing:
            return 1.0 if (own.mean > 0) == higher_is_better else own.p
        return against_both(own, beside, higher_is_better=higher_is_better)

    everyone, trained = evidence.everyone, evidence.trained or evidence.everyone
    if matched is None:
        return p_of(everyone, None), p_of(trained, None)
    p, survivors = p_of(trained, among_trained(matched)), matched.trained
    gains = (trained.mean > 0) == higher_is_better
    if gains and survivors is not None and (survivors.mean > 0) != higher_is_better:
        p = 1.0  # also where they are too few to decide
    return p_of(everyone, matched.everyone), p


def among_trained(matched: Evidence) -> Comparison:
    """What a claim about networks that train must hold against too: the matched arm among pairs in
    which both train, or among all pairs if those are too few for a claim, since most of its
    networks fail at these settings."""
    trained = matched.trained
    return matched.everyone if trained is None or trained.is_small else trained


def judge(
    members: pd.DataFrame,
    metric: str,
    pair: Pair = Pair(),  # noqa: B008  (frozen)
    *,
    margin: float | None = None,
    counted: CountedP | None = None,
    fails_below: float | None = None,
    chance: float = 0.0,
    look: int = 1,
    networks: pd.DataFrame | None = None,
    matched: Evidence | None = None,
    lacks_matched: bool = False,
) -> Verdict:
    """The verdict on the members of a confirmation.

    Args:
        members: rows of the members table, one for each arm and seed; or one for each arm and
            search, its number in place of the seed.
        metric: column to compare.
        pair: the arms to compare.
        margin: largest difference that would not matter, set before the data were seen; None claims
            no equivalence.
        counted: p values of the claims, if several comparisons are counted together.
        fails_below: accuracy below which a network failed; None: see `failures`.
        chance: accuracy of guessing.
        look: number of the look at fresh seeds, from 1, which widens the interval (see `looks`);
            `counted` must already account for it.
        networks: the networks behind `members`, if its rows stand for searches.
        matched: the first arm minus the second at the first's settings; `counted` must already
            account for it.
        lacks_matched: whether that was to be trained, and was not on all seeds (see
            `differ_from_both`).

    Raises:
        ValueError: without both arms, with fewer than two pairs, or a margin not above 0.
    """
    missing = [arm for arm in pair if arm not in set(members[keys.ARM])]
    if missing:
        raise ValueError(f"a verdict needs both arms; there is no {' and no '.join(missing)} one")
    members = members[members[keys.ARM].isin(pair)]
    of_pair = members if networks is None else networks[networks[keys.ARM].isin(pair)]
    pairs = paired_by_seed(members, metric)
    if len(pairs) < 2:
        raise ValueError(f"a verdict needs at least two pairs, got {len(pairs)}")
    up = keys.higher_is_better(metric)
    evidence = evidence_of_rows(
        members,
        metric,
        pair,
        networks=networks,
        level=level_of_look(look),
        below=fails_below,
        chance=chance,
    )
    everyone = evidence.everyone
    if counted is None:
        differ = differ_from_both(evidence, matched, higher_is_better=up, is_missing=lacks_matched)
        (counted,) = counted_p([evidence], margin, method="holm", look=look, differ=[differ])
    claim = claim_of(
        evidence,
        margin,
        higher_is_better=up,
        counted=counted,
        survivors_only=not up and bool(of_pair[keys.DIVERGED].any()),
    )
    decision = claim.decision
    beside = None if matched is None else matched.everyone
    if matched is not None and claim.of_trained:
        beside = among_trained(matched)
    if lacks_matched or (beside is not None and everyone.p < beside.p):
        decision = replace(decision, seeds_needed=None)  # that number belongs to another comparison
    return Verdict(
        pair=pair,
        outcome=decision.outcome,
        metric=metric,
        difference=everyone.mean,
        median=everyone.median,
        low=everyone.low,
        high=everyone.high,
        level=everyone.level,
        n=everyone.n,
        pairs=everyone.pairs,
        effect_size=everyone.effect_size,
        p_t=everyone.p_t,
        p=everyone.p,
        p_wilcoxon=everyone.p_wilcoxon,
        p_equivalence=decision.p_equivalence,
        margin=margin,
        seeds_needed=decision.seeds_needed,
        arm=_summary(of_pair, pairs, pair.arm),
        reference=_summary(of_pair, pairs, pair.reference),
        failures=evidence.failures_among(counted),
        luck=None if networks is None else _search_variance(of_pair, metric, pair),
        matched=beside,
        of_trained=claim.of_trained,
        trained=None if evidence.trained is everyone else evidence.trained,
        withheld=claim.withheld,
    )


def evidence_of_rows(
    members: pd.DataFrame,
    metric: str,
    pair: Pair,
    *,
    networks: pd.DataFrame | None = None,
    level: float = 0.95,
    below: float | None = None,
    chance: float = 0.0,
) -> Evidence:
    """The evidence in rows of the members table; for the arguments see `judge`."""
    pairs = paired_by_seed(members, metric)
    difference = (pairs[pair.arm] - pairs[pair.reference]).to_numpy(dtype=float)
    searches, by_seed = None, pairs
    if networks is not None:
        of_pair = networks[networks[keys.ARM].isin(pair)]
        by_seed = paired_by_seed(of_pair, metric)
        searches = _searches(of_pair, by_seed)
    return evidence_of(
        by_seed,
        pair,
        is_accuracy=keys.higher_is_better(metric),
        compared=None if networks is None else difference,
        searches=searches,
        level=level,
        below=below,
        chance=chance,
    )


def _searches(networks: pd.DataFrame, by_seed: pd.DataFrame) -> list[int]:
    """The number of the search of each seed."""
    number = networks.assign(number=search_number(networks)).groupby(keys.SEED)["number"].first()
    return [int(one) for one in number.loc[by_seed.index]]


def _search_variance(networks: pd.DataFrame, metric: str, pair: Pair) -> SearchVariance | None:
    """How the searches behind a comparison differ, from their pairs of networks; None if fewer than
    two have one."""
    pairs = paired_by_seed(networks, metric)
    difference = pairs[pair.arm] - pairs[pair.reference]
    number = _searches(networks, pairs)
    by_search = [d.to_numpy(dtype=float) for _, d in difference.groupby(number)]
    return search_variance(by_search) if len(by_search) > 1 else None


def _summary(members: pd.DataFrame, pairs: pd.DataFrame, arm: str) -> ArmSummary:
    diverged = int(members.loc[members[keys.ARM] == arm, keys.DIVERGED].sum())
    return ArmSummary(float(pairs[arm].mean()), float(pairs[arm].std(ddof=1)), diverged)
