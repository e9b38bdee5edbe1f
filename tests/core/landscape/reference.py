"""Curvature along the reference trajectories, up to their first instability.

`curvature_*.npz` hold what `tests/golden/golden_*.npz` of the same name leave out: after how many
updates the curvature was measured, `hessian_lambda_max` and `ntk_lambda_max_sum`. A file in the full
reference format, given by `--trajectory`, has both.

The Hessian after s updates is that of F with the class weights stored at index s - 1: those that the
NEXT update uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynloss_core.data import Labelled
from dynloss_core.training import BatchedEngine
from tests.golden.reference_runs import as_setup, first_instability

HERE = Path(__file__).parent
EVERY = 100


@dataclass(frozen=True, eq=False)
class Moments:
    """k moments of one run.

    Args:
        data: the training set.
        steps: (k,) updates done.
        parameters: by name, (k, ...) each.
        class_weights: (k, C) of the update that follows.
        hessian: (k,) reference values of the largest eigenvalue.
        ntk: (k,) the same for the kernel summed over the outputs.
    """

    data: Labelled
    steps: list[int]
    parameters: dict[str, Tensor]
    class_weights: Tensor
    hessian: Tensor
    ntk: Tensor


@cache
def moments(path: Path) -> Moments:
    """Train along the stored class weights and stop wherever the reference was measured."""
    stored = _arrays(path)
    if "curvature_step" not in stored:
        stored |= _arrays(HERE / path.name.replace("golden", "curvature"))
    last = first_instability(stored["weighted_loss"])
    kept = (stored["curvature_step"] <= last) & (stored["curvature_step"] % EVERY == 0)
    steps = stored["curvature_step"][kept].tolist()
    setup = as_setup(stored, max(steps))
    setup = replace(setup, problem=replace(setup.problem, evaluate_every=EVERY))
    engine = BatchedEngine(setup)
    found = [engine.parameters(0) for each in engine.evaluations() if each.step in steps]
    return Moments(
        data=setup.splits[0].train,
        steps=steps,
        parameters={name: torch.stack([each[name] for each in found]) for name in found[0]},
        class_weights=setup.class_weights(torch.tensor(steps))[:, 0],
        hessian=torch.from_numpy(stored["hessian_lambda_max"][kept]),
        ntk=torch.from_numpy(stored["ntk_lambda_max_sum"][kept]),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
