"""Recorded runs that go unstable where it is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from dynloss_core import keys
from dynloss_core.landscape.curvature_samples import CurvatureSamples
from dynloss_core.landscape.instabilities import find_instabilities
from studies.analysis.landscape.recorded_runs import Recordings, recordings
from studies.blocks.recorder import instability_rows


def unstable_runs() -> Recordings:
    """Two dynamical runs that go unstable at steps 600 and 620 of a period of 1000, when the
    sharpness passes 2, and a static one that never does."""
    steps = np.arange(2000)
    members, traces, curvature, unstable = [], [], [], []
    for arm, seed, onset in (
        (keys.DYNAMICAL, 0, 600),
        (keys.DYNAMICAL, 1, 620),
        (keys.STATIC, 0, None),
    ):
        identity = {
            keys.STUDY: "synthetic",
            keys.BLOCK: 0,
            keys.PHASE: "confirm",
            keys.ARM: arm,
            keys.TRIAL: 0,
            keys.SEED: seed,
        }
        loss = 1.0 - steps / 4000
        at = np.arange(0, 2001, 20)
        sharp = 0.5 + 1.5 * at / (onset or 4000)
        kernel = 100.0 + at * 0.1 - (0 if onset is None else 80.0 * (at >= onset + 200))
        if onset is not None:
            inside = (steps >= onset) & (steps < onset + 200)
            loss = loss + inside * 0.2 * (-1.0) ** steps
            samples = CurvatureSamples(at, sharp, kernel)
            found = find_instabilities(loss, period=1000, stop=2000, curvature=samples)
            unstable.append(instability_rows(pd.Series(identity), found, torch.ones(len(found))))
        rows = pd.DataFrame({**identity, keys.STEP: steps, keys.WEIGHTED_LOSS: loss})
        rows[keys.LOSS], rows[keys.ACCURACY] = loss, steps / 2000
        for c in range(3):
            rows[f"{keys.CLASS_WEIGHT}_{c}"] = 1.0
        traces.append(rows)
        curvature.append(
            pd.DataFrame(
                {
                    **identity,
                    keys.STEP: at,
                    keys.HESSIAN_LAMBDA_MAX: sharp,
                    keys.LEARNING_RATE: 1.0,
                    keys.NTK_LAMBDA_MAX: kernel,
                }
            )
        )
        members.append(
            {
                **identity,
                keys.PERIOD: 1000 if onset is not None else None,
                keys.STEPS: 2000,
                keys.RECORDED: True,
                keys.LEARNING_RATE: 1.0,
                keys.TRAIN_ACCURACY: 0.9,
            }
        )
    tables = {"traces": traces, "curvature": curvature, "instabilities": unstable}
    found = recordings(pd.DataFrame(members), {k: pd.concat(each) for k, each in tables.items()})
    assert found is not None
    return found
