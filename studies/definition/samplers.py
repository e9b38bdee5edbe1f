"""The table of samplers, which choose the points that an arm tries.

To add a sampler, add a row here and its name to `SamplerName`. It either lays out a design, which
fixes all points before the first result, or proposes one point after another from the results.

A proposing sampler is made anew for each trial, from the trial's own seed, so that a resumed study
continues as it would have. Two samplers are left out: Optuna's CMA-ES keeps its state in trials
that a resumed study does not have, and OptunaHub's `auto` is code that can change under its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from search_spaces import Point, Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["SAMPLERS", "Sampler", "SamplerName", "samplers_of"]

SamplerName = Literal["tpe", "random", "gp", "grid", "sobol"]


@dataclass(frozen=True)
class Sampler:
    """One sampler: a design, or an Optuna sampler that proposes.

    Args:
        modes: modes of study that may use it.
        design: function of a space, the number of values of each parameter (a study's `grid`), the
            number of points and a seed that returns all points; None for a sampler that proposes.
        proposes: function of a trial's seed that returns the Optuna sampler for it; None for a
            design.
        takes_grid: whether its points follow from a study's `grid`, not from a number of trials.

    Raises:
        ValueError: unless it has exactly one of `design` and `proposes`.
    """

    modes: tuple[str, ...]
    design: Callable[[Space, Mapping[str, int], int, int], list[Point]] | None = None
    proposes: Callable[[int], BaseSampler] | None = None
    takes_grid: bool = False

    def __post_init__(self) -> None:
        if (self.design is None) == (self.proposes is None):
            raise ValueError("a sampler lays out a design, or proposes")

    @property
    def adaptive(self) -> bool:
        """Whether its points depend on results."""
        return self.proposes is not None


def _grid(space: Space, counts: Mapping[str, int], _trials: int, _seed: int) -> list[Point]:
    return space.grid({name: count for name, count in counts.items() if name in space.parameters})


def _drawn(method: Literal["random", "sobol"]) -> Callable[..., list[Point]]:
    def design(space: Space, _counts: Mapping[str, int], trials: int, seed: int) -> list[Point]:
        return space.sample(trials, seed, method=method)

    return design


def _proposing(name: str, **options: bool) -> Callable[[int], BaseSampler]:
    def make(seed: int) -> BaseSampler:
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: BaseSampler = getattr(optuna.samplers, name)(seed=seed, **options)
            return sampler

    return make


SAMPLERS: dict[Any, Sampler] = {
    "tpe": Sampler(
        modes=("optimize", "confirm"),
        proposes=_proposing("TPESampler", multivariate=True, constant_liar=True),
    ),
    "random": Sampler(modes=("optimize",), design=_drawn("random")),
    "gp": Sampler(modes=("optimize",), proposes=_proposing("GPSampler")),
    "grid": Sampler(modes=("map",), design=_grid, takes_grid=True),
    "sobol": Sampler(modes=("map",), design=_drawn("sobol")),
}


def samplers_of(mode: str) -> list[str]:
    """Names of the samplers for studies of a mode, the default first."""
    return [name for name, sampler in SAMPLERS.items() if mode in sampler.modes]
