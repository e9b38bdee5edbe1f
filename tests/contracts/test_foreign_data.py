"""Data sets that no engine was written for: the fused loop trains what fits it, and says what does
not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from dynloss_core.config import ConfigError
from dynloss_core.data import Labelled, Splits
from dynloss_core.models import MLP, MLPConfig
from dynloss_core.seeding import Stream, generator
from dynloss_core.testing import DataSetContract
from dynloss_core.training import AutogradEngine, FusedCPUEngine, Problem, Setup, choose_engine
from tests.cases import MIXED, WITH_MOMENTUM, BytesConfig
from tests.contracts.engines import assert_equal, assert_same_trace


@dataclass(frozen=True)
class CloudsConfig:
    """One cloud of points per class, in any number of dimensions; each seed draws its own."""

    name: str = "clouds"
    inputs: int = 2
    num_classes: int = 3
    points: int = 9

    @property
    def training_samples(self) -> int:
        return self.points * self.num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.inputs,)

    def load(self, seed: int) -> Splits:
        draws = generator(seed, Stream.DATA)
        targets = torch.arange(self.num_classes).repeat_interleave(self.points)
        shape = 3, len(targets), self.inputs
        train, validation, test = torch.from_numpy(draws.standard_normal(shape)) + targets[:, None]
        return Splits(
            *(Labelled(each, targets) for each in (train, validation, test)), self.num_classes
        )


class TestClouds(DataSetContract):
    data = CloudsConfig(inputs=5)


class Tall(MLPConfig):
    """That builds another network than its parent."""

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> MLP:
        return MLP(*input_shape, [self.width, self.width], num_classes)


def clouds(inputs: int, classes: int, **changes: object) -> Problem:
    defaults = {
        "data": CloudsConfig(inputs=inputs, num_classes=classes),
        "model": MLPConfig(width=11),
        "dtype": "float64",
        "steps": 31,
        "static_tail": 5,
        "evaluate_every": 10,
    }
    return Problem(**{**defaults, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "classes", "loss"),
    [
        (2, 3, "cross_entropy"),
        pytest.param(3, 3, "cross_entropy", marks=pytest.mark.slow),
        (1, 2, "mse_sample_weighted"),
        (8, 2, "mse_output_weighted"),
        pytest.param(2, 8, "cross_entropy", marks=pytest.mark.slow),
        (9, 1, "mse_sample_weighted"),
    ],
)
def test_the_fused_loop_agrees_with_the_reference(inputs: int, classes: int, loss: str) -> None:
    problem = clouds(inputs, classes, loss=loss)
    assert choose_engine(problem) is choose_engine(problem, "fused") is FusedCPUEngine
    for ensemble in (MIXED, WITH_MOMENTUM):
        members = [replace(one, learning_rate=one.learning_rate / 20) for one in ensemble]
        fused, reference = (
            engine(Setup.build(problem, members), traced=[0, 2])
            for engine in (FusedCPUEngine, AutogradEngine)
        )
        found, expected = fused.run(), reference.run()
        assert_equal(list(found.evaluations), list(expected.evaluations), exactly=False)
        assert_same_trace(found.trace, expected.trace, exactly=False)
        for one, other in zip(found.parameters, expected.parameters, strict=True):
            assert one.keys() == other.keys()
            for name, tensor in one.items():
                torch.testing.assert_close(tensor, other[name], rtol=1e-9, atol=1e-12)
        assert torch.equal(fused.held_out().test_accuracy, reference.held_out().test_accuracy)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (clouds(2, 9), "up to 8 classes, together at most 10"),
        (clouds(8, 3), "up to 8 classes, together at most 10"),
        (clouds(2, 3, data=BytesConfig()), "trains on flat inputs"),
        (clouds(2, 3, batch_size=4), "trains on full batches"),
        (clouds(2, 3, model=MLPConfig(depth=0)), "one hidden layer"),
        (clouds(2, 3, model=Tall()), "one hidden layer"),
    ],
)
def test_what_the_fused_loop_does_not_fit_it_refuses_with_its_reason(
    problem: Problem, reason: str
) -> None:
    with pytest.raises(ConfigError, match=f"'fused' cannot train this problem: .*{reason}"):
        choose_engine(problem, "fused")
    assert choose_engine(problem).name != "fused"
