"""Both arms of a pair at each size of the network: what is compared, and what of it is claimed
(see `regimes`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from dynloss_core import keys
from studies.analysis.gains.interpolation import interpolation_of
from studies.analysis.gains.size_gains import Size, metric_gain
from studies.analysis.matched_rows import matched_rows
from studies.analysis.statistics.evidence import CountedP, Evidence, counted_p
from studies.analysis.statistics.judge import differ_from_both, evidence_of_rows
from studies.analysis.statistics.multiplicity import Method
from studies.analysis.statistics.pairing import at_own_best, paired_by_seed
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair, matched_name

__all__ = ["Sweep", "judged_sizes", "sweep_of", "sweeps_of"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """A pair of arms at all sizes, before its claims count others.

    Args:
        parameter: the parameter that sets the size.
        pair: the arms.
        metrics: what is compared: training accuracy, and the metric of generalisation.
        sizes: what is compared at each size, ascending.
        objective: static validation metric that chose the settings.
        margin: the margin of equivalence in the objective.
        look: number of the look at fresh seeds.
        attainable: the best training accuracy that the data allow.
        fresh: whether the seeds are fresh.
        searches: whether a pair is a search, with its seeds averaged, rather than a seed.
    """

    parameter: str
    pair: Pair
    metrics: tuple[str, str]
    sizes: tuple[ComparedSize, ...]
    objective: str
    margin: float | None
    look: int
    attainable: float
    fresh: bool
    searches: bool

    def margin_of(self, metric: str) -> float | None:
        """The margin in a metric; None in another unit than the objective's."""
        return self.margin if _kind(metric) == _kind(self.objective) else None


class ComparedSize(NamedTuple):
    """One size at which both arms can be compared.

    Args:
        value: the value of the parameter that sets it.
        rows: rows of both arms at their chosen settings.
        networks: the networks behind them, if rows stand for searches.
        static_train_best: the best mean training accuracy of a setting of the reference.
        pairs: each metric by seed, with one column per arm.
        evidence: each metric's evidence, the arm against the reference.
        differ: each metric's p values of a difference, of all networks and of those that train,
            which count the reference at the arm's settings (see `judge.against_both`).
    """

    value: float
    rows: pd.DataFrame
    networks: pd.DataFrame | None
    static_train_best: float
    pairs: dict[str, pd.DataFrame]
    evidence: dict[str, Evidence]
    differ: dict[str, tuple[float, float]]


def sweeps_of(tables: Tables, parameter: str) -> list[Sweep]:
    """Every pair of arms of a study that can be compared at two sizes or more."""
    return [sweep for of_pair in tables.of_pairs for sweep in _sweep_of_pair(of_pair, parameter)]


def _sweep_of_pair(tables: Tables, parameter: str) -> Iterator[Sweep]:
    question, latest = tables.question, tables.latest_look
    matched = None if latest is None else matched_rows(tables, latest)
    sweep = sweep_of(
        tables.search,
        tables.compared,
        parameter,
        question.objective,
        question.pair,
        attainable=question.attainable,
        margin=question.margin,
        look=1 if latest is None else tables.number_of(latest),
        networks=tables.fresh_networks if tables.searches > 1 else None,
        below=question.fails_below,
        chance=question.chance,
        matched=None if matched is None else matched.rows,
        matched_networks=None if matched is None else matched.networks,
        expects_matched=matched_name(question.pair) in question.matched,
    )
    if sweep is not None:
        yield sweep


def sweep_of(
    search: pd.DataFrame,
    confirm: pd.DataFrame,
    parameter: str,
    objective: str,
    pair: Pair = Pair(),  # noqa: B008  (frozen)
    *,
    attainable: float = 1.0,
    margin: float | None = None,
    look: int = 1,
    networks: pd.DataFrame | None = None,
    below: float | None = None,
    chance: float = 0.0,
    matched: pd.DataFrame | None = None,
    matched_networks: pd.DataFrame | None = None,
    expects_matched: bool = False,
) -> Sweep | None:
    """A pair of arms over the sizes of its network; None without both arms at two sizes.

    Args:
        search: rows of the members table with phase `search`.
        confirm: rows of a confirmation; empty if there was none.
        parameter: the parameter that sets the size, such as `model.width`.
        objective: static validation metric that chose the settings.
        pair: the arms.
        attainable: the best training accuracy that the data allow.
        margin: the margin of equivalence in the objective, set beforehand.
        look: number of the look at fresh seeds, which enters the p values (see `looks`).
        networks: rows of the networks behind `confirm`, if its rows stand for searches.
        below: accuracy below which a network failed; None: see `failures`.
        chance: accuracy of guessing.
        matched: rows of the arm and of the reference at the arm's settings, like `confirm`; None if
            that was not trained.
        matched_networks: the networks behind them, if rows stand for searches.
        expects_matched: whether that was to be trained: where it is missing, no gain is claimed.
    """
    chosen, fresh = _chosen(search, confirm, parameter, objective)
    metrics = (keys.TRAIN_ACCURACY, keys.on_test_set(objective) if fresh else objective)
    if chosen is not None and chosen.duplicated([parameter, keys.ARM, keys.SEED]).any():
        return None  # several settings of one size
    sizes = []
    for value, rows in () if chosen is None else chosen.groupby(parameter):
        pairs = {metric: paired_by_seed(rows, metric) for metric in metrics}
        if set(rows[keys.ARM]) != set(pair) or any(len(own) < 2 for own in pairs.values()):
            continue
        behind = _at(value, parameter, networks) if fresh else None
        of_matched = _at(value, parameter, matched) if fresh else None
        behind_matched = _at(value, parameter, matched_networks)
        evidence, differ = {}, {}
        for metric in metrics:
            evidence[metric] = evidence_of_rows(
                rows, metric, pair, networks=behind, below=below, chance=chance
            )
            differ[metric] = differ_from_both(
                evidence[metric],
                _against_matched(metric, pair, of_matched, behind_matched, below, chance),
                higher_is_better=keys.higher_is_better(metric),
                is_missing=fresh and expects_matched,
            )
        of_reference = search[(search[parameter] == value) & (search[keys.ARM] == pair.reference)]
        best = _best_fit(
            of_reference if len(of_reference) else rows[rows[keys.ARM] == pair.reference]
        )
        number = float(str(value))
        sizes.append(ComparedSize(number, rows, behind, best, pairs, evidence, differ))
    if len(sizes) < 2:
        return None
    return Sweep(
        parameter=parameter,
        pair=pair,
        metrics=metrics,
        sizes=tuple(sizes),
        objective=objective,
        margin=margin,
        look=look if fresh else 1,
        attainable=attainable,
        fresh=fresh,
        searches=networks is not None,
    )


def judged_sizes(sweeps: Sequence[Sweep]) -> list[tuple[Size, ...]]:
    """The gains at each size of each sweep. Of each metric, claims count all sizes of all sweeps,
    as verdicts do: of one pair, at a false discovery rate (Benjamini and Hochberg); of several, so
    that none may be false (Holm)."""
    method: Method = "benjamini-hochberg" if len(sweeps) < 2 else "holm"
    counted: dict[tuple[Pair, float, str], CountedP] = {}
    for metric in dict.fromkeys(metric for sweep in sweeps for metric in sweep.metrics):
        family = [(own, at) for own in sweeps if metric in own.metrics for at in own.sizes]
        values = counted_p(
            [at.evidence[metric] for _, at in family],
            family[0][0].margin_of(metric),
            method=method,
            look=max(own.look for own, _ in family),
            differ=[at.differ[metric] for _, at in family],
        )
        places = ((own.pair, at.value, metric) for own, at in family)
        counted |= dict(zip(places, values, strict=True))
    return [tuple(_judged(own, at, counted) for at in own.sizes) for own in sweeps]


def _judged(
    sweep: Sweep, at: ComparedSize, counted: Mapping[tuple[Pair, float, str], CountedP]
) -> Size:
    trained = at.rows if at.networks is None else at.networks
    train, general = (
        metric_gain(
            metric,
            sweep.pair,
            at.pairs[metric],
            at.evidence[metric],
            counted[sweep.pair, at.value, metric],
            sweep.margin_of(metric),
            diverged=bool(trained[keys.DIVERGED].any()),
        )
        for metric in sweep.metrics
    )
    return Size(
        value=at.value,
        parameters=_whole(at.rows, keys.PARAMETERS),
        samples=_whole(at.rows, keys.TRAIN_SAMPLES),
        interpolation={
            arm: interpolation_of(trained[trained[keys.ARM] == arm], sweep.attainable)
            for arm in sweep.pair
        },
        static_train_best=at.static_train_best,
        gains=(train, general),
    )


def _chosen(
    search: pd.DataFrame, confirm: pd.DataFrame, parameter: str, objective: str
) -> tuple[pd.DataFrame | None, bool]:
    """Each arm at its own best setting for each size, and whether on fresh seeds; None without a
    confirmation and without enough seeds to hold some out."""
    both = confirm.groupby(parameter)[keys.ARM].nunique() if len(confirm) else pd.Series(dtype=int)
    if int((both == 2).sum()) >= 2:
        return confirm, True
    if search[keys.SEED].nunique() >= 2 * 2:
        return at_own_best(search, objective, [parameter, keys.ARM], choosing="half"), False
    return None, False


def _at(value: object, parameter: str, rows: pd.DataFrame | None) -> pd.DataFrame | None:
    return None if rows is None else rows[rows[parameter] == value]


def _against_matched(
    metric: str,
    pair: Pair,
    rows: pd.DataFrame | None,
    networks: pd.DataFrame | None,
    below: float | None,
    chance: float,
) -> Evidence | None:
    """The arm against the reference at the arm's settings; None without two pairs of them."""
    own = Pair(pair.arm, matched_name(pair))
    if rows is None or set(rows[keys.ARM]) != set(own) or len(paired_by_seed(rows, metric)) < 2:
        return None
    return evidence_of_rows(rows, metric, own, networks=networks, below=below, chance=chance)


def _kind(metric: str) -> str:
    """`accuracy` or `loss`: a margin is in the unit of one of the two."""
    return metric.rpartition("_")[2]


def _best_fit(of_arm: pd.DataFrame) -> float:
    """The best mean training accuracy of a setting; NaN if every setting has a diverged network."""
    sound = of_arm[~of_arm.groupby(keys.TRIAL)[keys.DIVERGED].transform("any").astype(bool)]
    return float(sound.groupby(keys.TRIAL)[keys.TRAIN_ACCURACY].mean().max())


def _whole(rows: pd.DataFrame, name: str) -> int | None:
    return int(rows[name].iloc[0]) if name in rows.columns and rows[name].notna().all() else None
