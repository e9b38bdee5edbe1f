"""Pictures of the valley, from a small table with a known movement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.analysis.figures.files import save_animation
from studies.analysis.figures.landscape.valley import animate_valleys, draw_valleys, shown_moments
from studies.analysis.landscape.peristalsis import peristalsis, sentence
from studies.analysis.landscape.valleys import ValleyRun, valley_runs
from studies.definition.recording_options import Record
from tests.studies.analysis.unstable_runs import unstable_runs

PERIOD, STEPS, STOP = 100, 600, 500


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Members, and valleys F = bottom + lambda s^2 / 2 that sink and widen to the middle of each
    period of 100 steps; the last 100 are static, and so is the static arm."""
    members, rows = [], []
    for arm in (keys.STATIC, keys.DYNAMICAL):
        identity = {keys.PHASE: "confirm", keys.ARM: arm, keys.TRIAL: 0, keys.SEED: 3}
        period = PERIOD if arm == keys.DYNAMICAL else None
        members.append({**identity, keys.PERIOD: period, keys.LEARNING_RATE: 1.0})
        for step in range(0, STEPS + 1, 10):
            oscillates = period is not None and step < STOP
            depth = np.sin(np.pi * (step % PERIOD) / PERIOD) if oscillates else 0.0
            sharp, bottom = 2.0 - 1.5 * depth, 0.1 - 0.08 * depth
            weights = {f"{keys.CLASS_WEIGHT}_{c}": 1 + depth * (2, -1, -1)[c] for c in range(3)}
            moment = {keys.STEP: step, keys.HESSIAN_LAMBDA_MAX: sharp, "slope": 0.0, **weights}
            rows += [
                {
                    **identity,
                    **moment,
                    keys.OFFSET: offset,
                    keys.WEIGHTED_LOSS: bottom + sharp * offset**2 / 2,
                }
                for offset in np.linspace(-1.5, 1.5, 7)
            ]
    return pd.DataFrame(members), pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.fixture
def runs() -> tuple[ValleyRun, ...]:
    return valley_runs(*tables(), None)


def test_runs_are_matrices_of_their_tables(runs: tuple[ValleyRun, ...]) -> None:
    dynamical, static = runs
    assert (dynamical.arm, static.arm) == (keys.DYNAMICAL, keys.STATIC)
    assert dynamical.loss.shape == (61, 7)
    assert dynamical.bottom[[0, 5]] == pytest.approx([0.1, 0.02])
    assert dynamical.lambda_max[5] == pytest.approx(0.5)
    assert dynamical.class_weights[5] == pytest.approx([3, 0, 0])
    assert dynamical.boundaries() == [100, 200, 300, 400, 500]
    assert static.boundaries() == []
    assert valley_runs(pd.DataFrame(), pd.DataFrame(), None) == ()


def test_the_map_has_one_scale_and_marks_periods(runs: tuple[ValleyRun, ...]) -> None:
    unstable = replace(runs[0], instabilities=((180, 230),))
    figure = draw_valleys([unstable, runs[1]])
    above, below, sharpness = figure.axes[:3]
    assert above.collections[0].get_clim() == below.collections[0].get_clim()
    assert len(above.lines) == 5 + 1, "five ends of periods, one instability"
    assert not below.lines
    assert sharpness.get_yscale() == "log"
    assert len(figure.axes) == 4, "and one colour bar"


def test_the_animation_is_small_and_has_its_frames(
    runs: tuple[ValleyRun, ...], tmp_path: Path
) -> None:
    animation = animate_valleys(runs)
    shown = shown_moments(runs[0])
    assert runs[0].steps[shown[0]] == 200
    assert runs[0].steps[shown[-1]] == 520
    moving, still = save_animation(animation, tmp_path, "moving")
    with Image.open(moving) as gif:
        assert gif.size == (640, 400)
        assert gif.n_frames == animation.frames == len(shown)
        assert gif.info["loop"] == 0
    assert moving.stat().st_size < 2.5e6 / 160 * animation.frames * 2
    assert still.read_bytes().startswith(b"\x89PNG")
    assert runs[0].lambda_max[shown[animation.still]] == pytest.approx(0.5), "the widest"


def test_frames_are_around_the_last_instability_and_not_too_many(
    runs: tuple[ValleyRun, ...],
) -> None:
    early = replace(runs[0], instabilities=((210, 230), (590, 600)))
    steps = early.steps[shown_moments(early)]
    assert (steps[0], steps[-1]) == (0, 320)
    assert len(shown_moments(replace(runs[1], steps=np.arange(1000)))) <= 160


def test_one_arm_alone_is_drawn_too(runs: tuple[ValleyRun, ...]) -> None:
    assert len(draw_valleys(runs[:1]).axes) == 3
    assert animate_valleys(runs[1:]).frames == 61


def test_the_movement_is_measured_from_middle_to_end() -> None:
    recorded = unstable_runs()
    assert peristalsis(recorded) is None, "its weights do not oscillate"
    traces = [run.trace.assign(**{f"{keys.CLASS_WEIGHT}_0": 3.0}) for run in recorded.runs]
    moving = replace(
        recorded,
        runs=tuple(
            replace(run, trace=trace) for run, trace in zip(recorded.runs, traces, strict=True)
        ),
    )
    found = peristalsis(moving)
    assert found is not None
    assert found[keys.SEED].tolist() == [0, 1]
    ratio = (0.5 + 1.5 * 1000 / 600) / (0.5 + 1.5 * 500 / 600)
    assert found["lambda_ratio"][0] == pytest.approx(ratio)
    assert "n = 2 runs" in sentence(found)
    assert "0 of 2 periods" in sentence(found), "F falls"


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"valley_every": 100}, "valley_every"),
        ({"valley_every": 30, "curvature_every": 20}, "valley_every"),
        ({"valley_every": 20, "curvature_every": 20, "valley_seeds": 2}, "valley_seeds"),
    ],
)
def test_valleys_that_cannot_be_recorded_are_refused(record: dict[str, int], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Record(**record)
    assert refused.value.key == key
