"""What every data set promises: it matches its declaration, and one seed gives one draw."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from dynloss_core.data import DataConfig, Labelled
from dynloss_core.models import MLPConfig
from dynloss_core.testing.agreement import assert_plain_values
from dynloss_core.training import Member, Problem, Setup, choose_engine

__all__ = ["DataSetContract"]

_SEEDS = (0, 1, 7)


class DataSetContract:
    """The tests of one data set.

    Args:
        data: its configuration.
    """

    data: ClassVar[DataConfig]

    def _parts(self, seed: int) -> list[Labelled]:
        splits = self.data.load(seed)
        return [splits.train, splits.validation, splits.test]

    def test_what_is_loaded_is_what_was_declared(self) -> None:
        for seed in _SEEDS:
            splits = self.data.load(seed)
            assert splits.num_classes == self.data.num_classes
            assert splits.input_shape == tuple(self.data.input_shape)
            assert len(splits.train) == self.data.training_samples

    def test_every_part_is_whole(self) -> None:
        """Samples of one shape, finite, and as many for every seed."""
        sizes = {tuple(len(part) for part in self._parts(seed)) for seed in _SEEDS}
        assert len(sizes) == 1
        assert 0 not in next(iter(sizes))
        for part in self._parts(_SEEDS[0]):
            assert part.inputs.shape[1:] == self.data.input_shape
            assert bool(torch.isfinite(part.to(torch.float64, "cpu").inputs).all())

    def test_one_seed_is_one_draw(self) -> None:
        """Whatever the random states of torch and numpy, which must not change."""
        draws = []
        for noise in (0, 1):
            torch.manual_seed(noise)
            np.random.seed(noise)  # noqa: NPY002  the global state, which is not ours
            before = torch.random.get_rng_state()
            numpys = np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
            draws.append(self._parts(_SEEDS[-1]))
            assert torch.equal(torch.random.get_rng_state(), before)
            assert np.random.get_state(legacy=False)["state"]["pos"] == numpys  # noqa: NPY002
        for one, other in zip(*draws, strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)

    def test_its_configuration_is_plain_values(self) -> None:
        assert_plain_values(self.data)

    def test_a_network_learns_from_it(self) -> None:
        problem = Problem(
            data=self.data, model=MLPConfig(width=5), steps=20, static_tail=0, evaluate_every=20
        )
        setup = Setup.build(problem, [Member(0.01, seed=0)])
        first, last = choose_engine(problem)(setup).evaluations()
        assert last.train_loss < first.train_loss
