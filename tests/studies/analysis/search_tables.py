"""Tables of searches whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dynloss_core import keys
from search_spaces import FloatParameter, Parameter, Space, load
from studies.analysis.search_health.search_health import SearchHealth, search_health

ACCURACY, LOSS = keys.VALIDATION_ACCURACY, keys.VALIDATION_LOSS
RATE = FloatParameter(low=0.01, high=100.0, scale="log")
OFFSETS = np.array([-0.03, 0.0, 0.01, 0.02])  # of the seeds, alike in every trial


def space(**parameters: Parameter) -> Space:
    return Space(name="s", parameters=parameters)


def table(
    points: Sequence[Mapping[str, object]],
    values: Sequence[float] | np.ndarray,
    arm: str = keys.DYNAMICAL,
    metric: str = ACCURACY,
    diverged: Sequence[int] = (),
    offsets: np.ndarray = OFFSETS,
) -> pd.DataFrame:
    """One row per trial and seed, shuffled; of a trial that diverged, only the first network did."""
    rows = [
        {
            keys.ARM: arm,
            keys.TRIAL: trial,
            keys.SEED: seed,
            keys.STEPS: 1000,
            keys.DIVERGED: (gone := trial in diverged and seed == 0),
            metric: np.nan if gone else value + offset,
            **point,
        }
        for trial, (point, value) in enumerate(zip(points, values, strict=True))
        for seed, offset in enumerate(offsets)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def rates(*values: float) -> list[dict[str, object]]:
    return [{keys.LEARNING_RATE: value} for value in values]


def health(
    values: Sequence[float] | np.ndarray,
    adaptive: bool = True,
    diverged: Sequence[int] = (),
    offsets: np.ndarray = OFFSETS,
    metric: str = ACCURACY,
) -> SearchHealth:
    """Of a static arm that tries the middle of its range."""
    points = rates(*np.geomspace(0.1, 10, len(values)))
    search = table(points, values, keys.STATIC, metric, diverged, offsets)
    spaces = {keys.STATIC: space(learning_rate=RATE)}
    found = search_health(search, spaces, metric, adaptive=adaptive)
    assert found is not None
    return found


def sobol(count: int, arm_space: Space) -> list[dict[str, object]]:
    return [dict(point) for point in arm_space.sample(count, method="sobol")]


def both_arms(
    dynamical: int = 40, static: int = 40, diverged: Sequence[int] = ()
) -> tuple[pd.DataFrame, dict[str, Space]]:
    """A search of `spirals-mlp` with each arm's optimum inside, unless it has few trials."""
    spaces = {keys.DYNAMICAL: load("spirals-mlp"), keys.STATIC: load("spirals-mlp").static()}
    frames = []
    for (arm, mine), count in zip(spaces.items(), (dynamical, static), strict=True):
        points = [{keys.PERIOD: np.nan, **p} for p in sobol(count, mine)]
        at = np.log10(pd.DataFrame(points)[[*mine.searched()]].to_numpy(dtype=float))
        values = 0.9 - 0.2 * np.square(at - [3.0, 1.2, 0.0][-at.shape[1] :]).sum(axis=1)
        gone = diverged if arm == keys.STATIC else ()
        frames.append(table(points, values, arm, diverged=gone))
    search = pd.concat(frames, ignore_index=True)
    return search.astype({keys.PERIOD: "Int64"}), spaces
