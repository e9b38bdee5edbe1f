"""What a plain script cannot say yet, refused by name."""

from __future__ import annotations

from collections.abc import Iterator

from dynloss_core.config import ConfigError
from dynloss_core.own_command import own_command
from dynloss_core.training import Problem
from studies.plain_script.loss_code import ELEMENTS
from studies.plain_script.network_code import NETWORKS
from studies.plain_script.weights_code import ELEVATIONS

__all__ = ["refuse_what_is_not_plain"]


def refuse_what_is_not_plain(problem: Problem, study: str) -> None:
    """Refuse a problem that no script can be written for.

    Args:
        problem: the problem.
        study: the name of its study.

    Raises:
        ConfigError: naming the entry of the study, its value, and what trains it instead.
    """
    for key, what in _not_plain(problem):
        remedy = f"train it with `{own_command('train', '--from', study)}`"
        raise ConfigError(key, f"{what} cannot be exported", remedy)


def _not_plain(problem: Problem) -> Iterator[tuple[str, str]]:
    """Keys and values that have no code here."""
    if type(problem.model) not in NETWORKS:
        yield "model.name", f"{problem.model.name!r}, a network of a plug-in,"
    if problem.loss not in ELEMENTS:
        yield "training.loss", f"{problem.loss!r}, a loss of a plug-in,"
    if problem.oscillation.shape not in ELEVATIONS:
        yield "training.oscillation.shape", f"{problem.oscillation.shape!r}, a shape of a plug-in,"
    if problem.augmentation.active:
        yield "training.augmentation", "what happens to images at each visit"
    if problem.dtype == "bfloat16":
        yield "training.dtype", "bfloat16"
    if problem.learning_rate_schedule.curvature is not None:
        yield "training.learning_rate_schedule.curvature", "a rate that follows the curvature"
    if problem.sam_radius and (problem.traits.buffers or problem.traits.draws):
        with_ = "batch statistics" if problem.traits.buffers else "dropout"
        yield "training.sam_radius", f"sharpness-aware minimisation with {with_}"
