"""Committed studies on both sides of interpolation: who fits, and what oscillating adds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from docs.generators.result_pages import RESULTS, listed_studies
from dynloss_core import keys
from studies.definition.phases import Phase

__all__ = ["STUDIES", "both_sides"]

STUDIES = {
    "spirals_width_sweep": "Spirals, plain gradient descent",
    "spirals_controls": "Spirals, what oscillates",
    "digits_widths": "Digits, 300 images",
    "digits_controls": "Digits, what oscillates",
    "digits_label_noise": "Digits, labels redrawn",
    "fashion_widths": "Fashion-MNIST, 1,000 images",
    "fashion_controls": "Fashion-MNIST, what oscillates",
    "fashion_label_noise": "Fashion-MNIST, labels redrawn",
    "fashion_unbalanced": "Fashion-MNIST, classes of unequal size",
    "fashion_myrtle5_small": "Fashion-MNIST, convolutional networks",
    "fashion_myrtle5_small_interpolating": "Fashion-MNIST, convolutional networks that fit",
    "fashion_wideresnet_reduced": "Fashion-MNIST, a Wide ResNet",
    "fashion_wideresnet_reduced_16": "Fashion-MNIST, a Wide ResNet of 16 layers",
    "wrn_normalisation_reduced_group": "A Wide ResNet with group normalisation",
    "wrn_normalisation_reduced_none": "A Wide ResNet without normalisation",
    "wrn_retune_reduced": "A Wide ResNet, weight decay and batch size tuned",
    "wrn_curvature_lr_reduced": "A Wide ResNet at a rate that follows the curvature",
}
"""The studies of the page, each with its heading; one that is not committed is left out."""

_BLIND = ("stratified", "random")  # groups that know nothing of classes; the first that a study has
_MODELS = {
    "mlp": "MLP, hidden layers: {depth}",
    "myrtle5": "Myrtle5",
    "wide_resnet": "WRN-{depth}-{widening}, normalisation: {normalisation}",
}
_ROUNDING = 1e-6
_WIDE = 0.01  # an interval, beyond which the third decimal is the last that says something
_SIZES = ("width", "channels")
_ONE = "one"  # size of a study of no other
_UNBROKEN = "\N{NO-BREAK SPACE}"


def both_sides() -> str:
    """A table for each study, with a row for each size."""
    there = [name for name in STUDIES if (RESULTS / name / "summary.json").exists()]
    return "\n".join(line for name in there for line in _section(name))


def _section(name: str) -> Iterator[str]:
    folder = RESULTS / name
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    arm = "classes" if "classes" in study["arms"] else keys.DYNAMICAL
    verdicts = [each for each in summary["verdicts"] if _pair(each) == (arm, keys.STATIC)]
    blind = {
        (_pair(each)[1], _key(each["setting"])): each["test"]
        for each in summary["verdicts"]
        if _pair(each)[0] == arm and _pair(each)[1] in _BLIND
    }
    fresh = _fresh_networks(folder)
    _, networks, time, _ = listed_studies()[name]
    model = _MODELS[study["model"]["name"]].format(**study["model"])
    n, pairs = verdicts[0]["test"]["n"], verdicts[0]["test"]["pairs"]
    of_size = "of each size" if len(verdicts) > 1 else "in all"
    yield f"## {STUDIES[name]}\n"
    yield (
        f"[`{name}`](studies/{name}.md): {model}; {n} searches, {pairs} pairs of fresh networks "
        f"{of_size}; {networks} networks, {time}.\n"
    )
    size = _what_sizes(verdicts[0]["setting"] or study["model"])
    head = [size, f"fit: static, {arm}", "training", "test", "verdict"]
    head += [f"{arm} less blind"] * bool(blind) + ["failed"]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for verdict in verdicts:
        setting, test = verdict["setting"], verdict["test"]
        regime = _regime(summary["regimes"] or {}, setting, arm)
        against = next(
            (blind[at] for each in _BLIND if (at := (each, _key(setting))) in blind), None
        )
        failures = test["failures"]
        cells = [
            _size(setting or study["model"]),
            ", ".join(_fitting(fresh, regime, each) for each in (keys.STATIC, arm)),
            "" if regime is None else _interval(regime, "gain"),
            _interval(test, "difference"),
            test["outcome"].replace("_", " ") + (r"\*" if test["of_trained"] else ""),
            *(["" if against is None else _interval(against, "difference")] if blind else []),
            f"{failures['arm']}, {failures['reference']} of {failures['n']}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _pair(verdict: dict[str, Any]) -> tuple[str, str]:
    return verdict.get("arm", keys.DYNAMICAL), verdict.get("reference", keys.STATIC)


def _key(setting: dict[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)


def _fresh_networks(folder: Path) -> pd.DataFrame:
    members = pd.read_parquet(folder / "members.parquet")
    return members[[Phase.parse(str(name)).is_fresh for name in members[keys.PHASE]]]


def _regime(regimes: dict[str, Any], setting: dict[str, Any], arm: str) -> dict[str, Any] | None:
    """Training accuracy at a size, where a study over sizes tells it."""
    for name, rows in regimes.items():
        if name.rpartition(", ")[2] not in (f"{arm} against {keys.STATIC}", name):
            continue
        for row in rows:
            same = all(float(row[key]) == float(value) for key, value in setting.items())
            if same and row["metric"] == keys.TRAIN_ACCURACY:
                return dict(row)
    return None


def _fitting(fresh: pd.DataFrame, regime: dict[str, Any] | None, arm: str) -> str:
    """The share of fresh networks that are as accurate as their training data allow."""
    if regime is not None:
        return f"{regime[f'{arm}_interpolating']:.0%}"
    reached = fresh.loc[fresh[keys.ARM] == arm, keys.TRAIN_ACCURACY]
    return f"{(reached >= 1 - _ROUNDING).mean():.0%}"  # no two images are alike


def _size(sizes: dict[str, Any]) -> str:
    return str(next((value for key, value in sizes.items() if key.endswith(_SIZES)), _ONE))


def _what_sizes(sizes: dict[str, Any]) -> str:
    """`width` or `channels`; else `size`."""
    return next((size for size in _SIZES for key in sizes if key.endswith(size)), "size")


def _interval(row: dict[str, Any], value: str) -> str:
    """The value on a line, and its interval on the next where a table has no room for both."""
    decimals = 3 if row["high"] - row["low"] > _WIDE else 4
    numbers = (f"{number:+.{decimals}f}" for number in (row[value], row["low"], row["high"]))
    return f"{{}} [{{}},{_UNBROKEN}{{}}]".format(*numbers)
