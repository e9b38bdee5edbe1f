"""Studies as tables, with the parts that sentences depend on varied one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from dynloss_core import keys
from search_spaces import FloatParameter, IntParameter, Space
from studies.analysis.analyses import analyse
from studies.analysis.question import Question
from studies.analysis.study_analysis import Analysis

WIDTH = "model.width"
ARMS = (keys.DYNAMICAL, keys.STATIC)


def question(
    adaptive: bool = True,
    widths: tuple[int, ...] = (),
    arms: tuple[str, ...] = ARMS,
    objective: str = keys.VALIDATION_ACCURACY,
    one_split: bool = False,
    **_: object,
) -> Question:
    rate = FloatParameter(low=0.1, high=10.0, scale="log")
    sizes = {WIDTH: IntParameter(low=10, high=1000, scale="log", role="scientific")}
    own = {"learning_rate": rate, **(sizes if widths else {})}
    period = IntParameter(low=10, high=1000, scale="log", unit="steps")
    amplitude = FloatParameter(low=1.0, high=100.0, scale="log")
    spaces = {
        keys.DYNAMICAL: Space(
            name="s", parameters={"period": period, "amplitude": amplitude, **own}
        ),
        keys.STATIC: Space(name="s", parameters=own),
    }
    return Question(
        objective=objective,
        spaces={arm: spaces[arm] for arm in arms},
        scientific=(WIDTH,) if widths else (),
        adaptive=adaptive,
        tail=0.2,
        one_split=one_split,
    )


def study_tables(
    adaptive: bool = True,
    widths: tuple[int, ...] = (),
    arms: tuple[str, ...] = ARMS,
    objective: str = keys.VALIDATION_ACCURACY,
    seeds: int = 4,
    trials: int = 24,
    grid: bool = False,
    shared: bool = False,
    bound: bool = False,
    lost: str | None = None,
    confirmed: bool = True,
    gain: float = 0.1,
    fresh: int = 8,
    **_: object,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The members and curves tables of a study.

    Args:
        grid: the dynamical trials stand on a 4 x 3 grid; else they are scattered.
        shared: whether the arms have learning rates in common.
        bound: the static arm's best learning rate is the highest.
        lost: the arm of which every search trial diverges.
        confirmed: the winners were rerun on fresh seeds.
        gain: of the dynamical loss.
        fresh: number of fresh seeds.
    """
    draws = np.random.default_rng(0)
    rows, curves = [], []

    def add(phase: str, arm: str, trial: int, seed: int, point: dict, value: float) -> None:
        gone = phase == keys.SEARCH and arm == lost and seed % seeds == 0
        accuracy = np.nan if gone else float(np.clip(value + draws.normal(0, 0.01), 0, 1))
        loss = 1.2 - accuracy
        rows.append(
            {
                keys.PHASE: phase,
                keys.ARM: arm,
                keys.TRIAL: trial,
                keys.SEED: seed,
                keys.STEPS: 1000,
                keys.DIVERGED: gone,
                keys.TRAIN_ACCURACY: accuracy,
                keys.VALIDATION_ACCURACY: accuracy,
                keys.VALIDATION_LOSS: loss,
                keys.TEST_ACCURACY: accuracy if phase != keys.SEARCH else np.nan,
                keys.TEST_LOSS: loss if phase != keys.SEARCH else np.nan,
                **point,
            }
        )
        if phase != keys.SEARCH:
            for step in (0, 500, 1000):
                metrics = {
                    keys.TRAIN_ACCURACY: step / 2000,
                    keys.VALIDATION_ACCURACY: step / 2000,
                    keys.TRAIN_LOSS: 1.1 - step / 1000,
                }
                identity = {keys.PHASE: phase, keys.ARM: arm, keys.SEED: seed, keys.STEP: step}
                curves.append({**identity, **metrics})

    for arm in arms:
        best: dict[object, tuple[float, dict]] = {}
        number = 0
        for width in widths or (None,):
            places = list(product(np.geomspace(10, 1000, 4), np.geomspace(2, 80, 3)))
            for index in range(len(places) if grid and arm == keys.DYNAMICAL else trials):
                point: dict[str, object] = {} if width is None else {WIDTH: width}
                rate = (
                    0.2 * 1.15 ** (index % 12) * (1.0 if shared else 1.0 + 0.01 * (arm == arms[0]))
                )
                if bound and arm == keys.STATIC:
                    rate = 10.0 / 1.1**index
                period, amplitude = (
                    places[index % len(places)]
                    if grid
                    else (10 ** (1 + 2 * draws.random()), 10 ** (0.4 + 1.5 * draws.random()))
                )
                own = arm == keys.DYNAMICAL
                point |= {
                    keys.LEARNING_RATE: rate,
                    keys.PERIOD: round(period) if own else np.nan,
                    keys.AMPLITUDE: amplitude if own else 1.0,
                }
                top = np.log(10.0 if bound and arm == keys.STATIC else 0.5)
                value = 0.6 + gain * own - 0.05 * abs(np.log(rate) - top)
                for seed in range(seeds):
                    add(keys.SEARCH, arm, number, seed, point, value)
                if value > best.get(width, (-1.0, {}))[0]:
                    best[width] = (value, point)
                number += 1
        for index, (value, point) in enumerate(best.values() if confirmed else ()):
            for seed in range(50_000, 50_000 + fresh):
                add(keys.CONFIRM, arm, index, seed, point, value)
    members = pd.DataFrame(rows).astype({keys.PERIOD: "Int64"})
    return members, pd.DataFrame(curves)


def analysed(**kind: object) -> Analysis:
    return analyse(*study_tables(**kind), question(**kind))  # type: ignore[arg-type]
