"""Data sets of torch and torchvision become splits, or are refused by the sample that does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from dynloss_core.config import ConfigError
from dynloss_core.data import Splits, splits_of

SHAPE = (3, 8, 6)


def fakes(size: int, offset: int = 0, transform: Any = None) -> FakeData:
    return FakeData(size, SHAPE, 3, transform=transform, random_offset=offset)


def floats(size: int, seed: int = 0) -> TensorDataset:
    draws = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randn(size, 2, 5, generator=draws), torch.arange(size) % 3)


def test_images_become_bytes_with_the_scale_of_the_training_set() -> None:
    train, test = fakes(50), fakes(20, 50)
    splits = splits_of(train, test, num_classes=3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [40, 10, 20]
    assert splits.input_shape == SHAPE
    assert splits.test.inputs.dtype == torch.uint8
    for i, (image, label) in enumerate(test[i] for i in range(20)):
        assert np.array_equal(splits.test.inputs[i].permute(1, 2, 0).numpy(), np.array(image))
        assert int(splits.test.targets[i]) == label
    scale = splits.train.scale
    assert scale is not None
    assert scale == splits.validation.scale == splits.test.scale
    pixels = splits.train.inputs.double() / 255
    torch.testing.assert_close(
        torch.tensor(scale.mean).double(), pixels.mean((0, 2, 3)), rtol=1e-6, atol=0
    )


def test_bytes_in_tensors_are_as_images() -> None:
    made = splits_of(fakes(30), fakes(9, 30))
    same = splits_of(fakes(30, 0, v2.PILToTensor()), fakes(9, 30, v2.PILToTensor()))
    assert torch.equal(made.train.inputs, same.train.inputs)
    assert made.train.scale == same.train.scale


def test_floats_stay() -> None:
    train, test = floats(30), floats(9, 1)
    splits = splits_of(train, test, validation=floats(6, 2))
    assert splits.train.scale is None
    assert torch.equal(splits.train.inputs, train.tensors[0])
    assert torch.equal(splits.validation.targets, torch.arange(6) % 3)
    assert splits.num_classes == 3
    assert splits_of(train, test, num_classes=5).num_classes == 5


@given(st.integers(0, 2**31), st.floats(0.1, 0.9), st.integers(10, 60))
def test_validation_is_drawn_from_training(seed: int, share: float, samples: int) -> None:
    inputs = torch.arange(samples, dtype=torch.float64)[:, None]
    data = TensorDataset(inputs, torch.arange(samples) % 2)
    splits = splits_of(data, data, validation=share, seed=seed)
    rows = [set(part.inputs[:, 0].int().tolist()) for part in (splits.train, splits.validation)]
    assert rows[0] | rows[1] == set(range(samples))
    assert not rows[0] & rows[1]
    assert len(rows[1]) == round(share * samples)
    ones = int(splits.validation.targets.sum())
    assert abs(len(rows[1]) - 2 * ones) <= 1
    again = splits_of(data, data, validation=share, seed=seed)
    assert torch.equal(again.train.inputs, splits.train.inputs)


def test_what_transforms_draw_is_the_seeds_and_leaves_torch_alone() -> None:
    noisy = v2.Compose([v2.PILToTensor(), v2.RandomCrop(4)])
    draws = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        draws.append(splits_of(fakes(30, 0, noisy), fakes(9, 30, noisy)))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(draws[0].train.inputs, draws[1].train.inputs)


@pytest.mark.parametrize(
    "label", [1, np.int64(1), np.uint8(1), torch.tensor(1), torch.tensor(1, dtype=torch.uint8)]
)
def test_labels_of_any_integer_type(label: Any) -> None:
    data = [(torch.zeros(2), 0), (torch.ones(2), label)]
    assert splits_of(data, data, validation=data).train.targets.tolist() == [0, 1]


def test_any_map_style_data_set_will_do() -> None:
    whole = floats(30)
    splits = splits_of(Subset(whole, range(20)), Subset(whole, range(20, 30)))
    assert isinstance(splits, Splits)
    assert torch.equal(splits.test.inputs, whole.tensors[0][20:])


GOOD = [(torch.zeros(3, 4, 4, dtype=torch.uint8), i % 2) for i in range(10)]
X = GOOD[0][0]


def worse(sample: object) -> list[Any]:
    return [*GOOD[:3], sample]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "it has no samples"),
        (worse(X), "sample 3 is a Tensor; give pairs: (image or tensor, label)"),
        (worse((X, 0, 1)), "sample 3 is a tuple of 3; give pairs"),
        (worse({"image": X, "label": 0}), "sample 3 is a dict of 2; give pairs"),
        (worse((np.zeros((4, 4)), 0)), "sample 3 holds a ndarray; give Pillow images, or tensors"),
        (worse(("a.png", 0)), "sample 3 holds a str"),
        (worse((X[0], 0)), "sample 3 is uint8 of shape (4, 4); give bytes as (1 or 3 channels"),
        (worse((X.permute(1, 2, 0), 0)), "sample 3 is uint8 of shape (4, 4, 3)"),
        (worse((X.long(), 0)), "sample 3 is int64 of shape (3, 4, 4); give floats, or bytes"),
        (worse((X.float(), 0)), "sample 3 is float32 of shape (3, 4, 4), sample 0 uint8 of shape"),
        (worse((X[:, 1:], 0)), "let a transform resize and convert them"),
        (worse((Image.new("L", (4, 4)), 0)), "sample 3 is uint8 of shape (1, 4, 4), sample 0"),
        (worse((Image.new("F", (4, 4)), 0)), "sample 3 cannot be converted to bytes: its pixels have 32 bits"),
        ([(torch.full((2,), torch.nan), 0)], "sample 0 has values that are not finite"),
        (worse((X, "cat")), "the label of sample 3 is 'cat' (str); give class indices: 0, 1, 2"),
        (worse((X, 1.0)), "the label of sample 3 is 1.0 (float)"),
        (worse((X, True)), "the label of sample 3 is True (bool)"),
        (worse((X, None)), "the label of sample 3 is None"),
        (worse((X, torch.tensor(True))), "the label of sample 3 is tensor(True) (torch.bool"),
        (worse((X, torch.tensor([0, 1]))), "(torch.int64 of shape (2,))"),
        (worse((X, torch.tensor(1.0))), "(torch.float32 of shape ())"),
        (worse((X, 2)), "the label of sample 3 is 2; give class indices from 0 to 1"),
        (worse((X, -1)), "the label of sample 3 is -1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_what_does_not_fit_is_refused_by_name(name: str, data: Any, message: str) -> None:
    parts = {"train": GOOD, "validation": GOOD, "test": GOOD, name: data}
    with pytest.raises(ConfigError, match=rf"^{name}: .*{re.escape(message)}"):
        splits_of(**parts, num_classes=2)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from GOOD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": Endless()}, "train: Endless has no length, or cannot be indexed"),
        ({"validation": 1}, "validation: 1 is not a fraction; use a number between 0 and 1, or"),
        ({"validation": 0.01}, "validation: 0.01 of 10 samples leaves 0 for validation"),
        ({"seed": -1}, "seed: -1 is negative; use >= 0"),
        (
            {"test": fakes(3)},
            "test: its samples are uint8 of shape (3, 8, 6), those of train uint8",
        ),
        ({"num_classes": 1}, "train: the label of sample 1 is 1; give class indices from 0 to 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        splits_of(**{"train": GOOD, "test": GOOD, **arguments})
