from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ConfigError, config_hash
from dynloss_core.data import (
    DigitsConfig,
    FashionMNISTConfig,
    Labelled,
    SpiralsConfig,
    Splits,
    attainable_accuracy,
)
from dynloss_core.data.label_noise import with_label_noise
from dynloss_core.data.training_shares import kept_of_each, with_shares
from dynloss_core.seeding import Stream, generator
from dynloss_core.testing import DataSetContract
from tests.cases import BytesConfig
from tests.core.data.image_files import needs_fashion_mnist


class TestSpirals(DataSetContract):
    data = SpiralsConfig(points_per_class=9, num_classes=4)


class TestSpiralsOfUnequalClasses(DataSetContract):
    data = SpiralsConfig(points_per_class=9, training_shares=(1.0, 0.5, 0.1))


class TestDigits(DataSetContract):
    data = DigitsConfig(split_seed=2)


class TestBytes(DataSetContract):
    data = BytesConfig()


def test_spirals_without_noise_are_the_published_curve() -> None:
    splits = SpiralsConfig(points_per_class=5, noise=0.0).load(0)
    for j in range(3):
        for k in range(5):
            radius, angle = k / 4, 2 * math.pi * j / 3 + 4 * math.pi * k / 4
            expected = torch.tensor([radius * math.cos(angle), radius * math.sin(angle)])
            point = splits.train.inputs[5 * j + k]
            torch.testing.assert_close(point, expected.double(), atol=1e-6, rtol=0)
            assert int(splits.train.targets[5 * j + k]) == j


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(2, 6))
def test_spirals_belong_to_their_seed(seed: int, points: int, classes: int) -> None:
    config = SpiralsConfig(points_per_class=points, num_classes=classes)
    one, other = config.load(seed), config.load(seed + 1)
    assert one.train.inputs.shape == (points * classes, 2)
    if points > 1:
        assert not torch.equal(one.train.inputs, other.train.inputs)
        assert not torch.equal(one.train.inputs, one.validation.inputs)
        assert not torch.equal(one.validation.inputs, one.test.inputs)


@given(
    st.integers(0, 2**31),
    st.integers(1, 30),
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5),
)
def test_unequal_classes_are_a_part_of_the_balanced_ones(
    seed: int, points: int, shares: list[float]
) -> None:
    balanced = SpiralsConfig(points_per_class=points, num_classes=len(shares))
    unequal = replace(balanced, training_shares=tuple(shares))
    whole, part = balanced.load(seed), unequal.load(seed)
    for split in ("validation", "test"):
        assert torch.equal(getattr(whole, split).inputs, getattr(part, split).inputs)
    assert len(part.train) == unequal.training_samples
    for c, share in enumerate(shares):
        of_class = part.train.inputs[part.train.targets == c]
        everything = whole.train.inputs[whole.train.targets == c]
        assert len(of_class) == max(1, round(share * points))
        assert len(torch.unique(torch.cat([of_class, everything]), dim=0)) == points
        assert torch.equal(of_class[0], everything[0])
    assert config_hash(replace(balanced, training_shares=())) == config_hash(balanced)


def test_digits_are_split_once_disjointly_and_by_class() -> None:
    splits = DigitsConfig().load(0)
    assert splits is DigitsConfig().load(99), "the split does not depend on a member's seed"
    parts = [splits.train, splits.validation, splits.test]
    assert sum(map(len, parts)) == 1797
    rows = torch.cat([part.inputs for part in parts])
    assert len(torch.unique(rows, dim=0)) == 1797, "no sample stands in two splits"
    assert rows.min() == 0
    assert rows.max() == 1
    for part in parts:
        shares = torch.bincount(part.targets, minlength=10) / len(part)
        assert bool(((shares > 0.09) & (shares < 0.11)).all())
    assert not torch.equal(DigitsConfig(split_seed=1).load(0).test.inputs, splits.test.inputs)


@pytest.mark.parametrize(
    ("config", "values", "key"),
    [
        (SpiralsConfig, {"points_per_class": 0}, "points_per_class"),
        (SpiralsConfig, {"noise": -1.0}, "noise"),
        (SpiralsConfig, {"num_classes": 1}, "num_classes"),
        (SpiralsConfig, {"training_shares": (1.0, 0.5)}, "training_shares"),
        (SpiralsConfig, {"training_shares": (1.0, 0.5, 0.0)}, "training_shares"),
        (DigitsConfig, {"test": 1.5}, "test"),
        (DigitsConfig, {"validation": 0.6, "test": 0.5}, "test"),
        (DigitsConfig, {"split_seed": -1}, "split_seed"),
        (DigitsConfig, {"train_samples": 40}, "train_samples"),
        (DigitsConfig, {"train_samples": 1077}, "train_samples"),
        (DigitsConfig, {"label_noise": 1.5}, "label_noise"),
        (FashionMNISTConfig, {"label_noise": -0.1}, "label_noise"),
        (FashionMNISTConfig, {"training_shares": (1.0, 0.5)}, "training_shares"),
        (FashionMNISTConfig, {"training_shares": (1.1,) * 10}, "training_shares"),
    ],
)
def test_refuses_values_outside_their_range(config: type, values: dict, key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(**values)
    assert refusal.value.key == key


def test_labelled_refuses_targets_of_another_length() -> None:
    with pytest.raises(ValueError, match="targets"):
        Labelled(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))


def test_streams_of_one_seed_are_independent_and_repeatable() -> None:
    draws = {stream: generator(7, stream).standard_normal(4) for stream in Stream}
    for stream, values in draws.items():
        assert np.array_equal(values, generator(7, stream).standard_normal(4))
        for other in set(Stream) - {stream}:
            assert not np.array_equal(values, draws[other])
    first, second = (generator(7, Stream.BATCH_ORDER, epoch).permutation(50) for epoch in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint32])
def test_targets_of_any_integer_type_are_kept_as_indices(dtype: torch.dtype) -> None:
    data = Labelled(torch.zeros(3, 2), torch.tensor([2, 0, 1]).to(dtype))
    assert data.targets.tolist() == [2, 0, 1]
    assert data.targets.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_targets_that_are_no_indices_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="an integer type"):
        Labelled(torch.zeros(3, 2), torch.tensor([1, 0, 1]).to(dtype))


@pytest.mark.parametrize("wrong", [3, -1])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_split_with_a_class_too_many_is_refused(part: str, wrong: int) -> None:
    data = Labelled(torch.zeros(3, 2), torch.tensor([2, 0, 1]))
    parts = {"train": data, "validation": data, "test": data}
    parts[part] = Labelled(data.inputs, torch.tensor([2, wrong, 1]))
    with pytest.raises(ValueError, match=f"the {part} set holds target {wrong}, not a class index"):
        Splits(**parts, num_classes=3)


def test_three_points_of_the_spirals_coincide_and_no_digits_do() -> None:
    assert attainable_accuracy(SpiralsConfig().load(0).train) == pytest.approx(298 / 300)
    assert attainable_accuracy(DigitsConfig().load(0).train) == 1.0


@pytest.mark.parametrize("size", [50, 180, 1076])
def test_fewer_digits_are_a_part_of_them_with_the_same_classes(size: int) -> None:
    config = DigitsConfig(train_samples=size)
    few, whole = config.load(0), DigitsConfig().load(0)
    assert len(few.train) == config.training_samples == size
    assert few.test.inputs is not None
    assert torch.equal(few.test.inputs, whole.test.inputs)
    assert torch.equal(few.validation.inputs, whole.validation.inputs)
    counts = torch.bincount(few.train.targets, minlength=10)
    assert counts.max() - counts.min() <= max(2, 0.1 * size / 10)
    every = {row.numpy().tobytes() for row in whole.train.inputs}
    assert {row.numpy().tobytes() for row in few.train.inputs} <= every


@given(share=st.floats(0, 1), classes=st.integers(2, 10), seed=st.integers(0, 99))
def test_noise_redraws_a_share_of_the_training_labels(
    share: float, classes: int, seed: int
) -> None:
    clean = Labelled(torch.arange(4000.0)[:, None], torch.arange(4000) % classes)
    noisy = with_label_noise(clean, share, classes, seed)
    assert torch.equal(noisy.inputs, clean.inputs)
    assert noisy.targets.min() >= 0
    assert noisy.targets.max() < classes
    wrong = int((noisy.targets != clean.targets).sum())
    redrawn, chance = round(share * 4000), 1 - 1 / classes
    assert abs(wrong - redrawn * chance) <= 5 * np.sqrt(redrawn * chance / classes) + 1e-9
    more = with_label_noise(clean, min(1.0, share + 0.1), classes, seed)
    changed = noisy.targets != clean.targets
    assert torch.equal(more.targets[changed], noisy.targets[changed]), "more noise keeps the rest"
    assert torch.equal(with_label_noise(clean, share, classes, seed).targets, noisy.targets)


@given(
    shares=st.lists(st.floats(0.01, 1), min_size=2, max_size=10),
    samples=st.integers(50, 4000),
    seed=st.integers(0, 99),
)
def test_classes_keep_their_shares(shares: list[float], samples: int, seed: int) -> None:
    classes = len(shares)
    balanced = Labelled(torch.arange(float(samples))[:, None], torch.arange(samples) % classes)
    kept = kept_of_each(shares, samples)
    assert kept == [max(1, math.floor(round(s * samples / classes, 6))) for s in shares]
    reduced = with_shares(balanced, kept, seed)
    assert torch.bincount(reduced.targets, minlength=classes).tolist() == kept
    assert torch.equal(reduced.inputs[:, 0].sort().values, reduced.inputs[:, 0]), "in their order"
    rows = reduced.inputs[:, 0].long()
    assert torch.equal(balanced.targets[rows], reduced.targets)
    more = with_shares(balanced, kept_of_each([min(1.0, s + 0.1) for s in shares], samples), seed)
    assert set(rows.tolist()) <= set(more.inputs[:, 0].long().tolist()), "a larger share adds"


@needs_fashion_mnist
def test_images_of_unequal_classes() -> None:
    balanced = FashionMNISTConfig(train_samples=500, validation=500, test_samples=500)
    shares = (1.0, 0.5, 0.2, *(1.0,) * 7)
    unequal = replace(balanced, training_shares=shares)
    whole, reduced = balanced.load(0), unequal.load(0)
    assert torch.bincount(reduced.train.targets).tolist() == [50, 25, 10, *[50] * 7]
    assert unequal.training_samples == len(reduced.train) == 435
    for name in ("validation", "test"):
        assert torch.equal(getattr(whole, name).inputs, getattr(reduced, name).inputs)
    every = {row.numpy().tobytes() for row in whole.train.inputs}
    assert {row.numpy().tobytes() for row in reduced.train.inputs} <= every
    assert config_hash(replace(balanced, training_shares=())) == config_hash(balanced)


def test_noise_is_in_the_training_labels_alone() -> None:
    clean, noisy = DigitsConfig().load(0), DigitsConfig(label_noise=0.4).load(0)
    assert torch.equal(clean.train.inputs, noisy.train.inputs)
    wrong = (clean.train.targets != noisy.train.targets).double().mean()
    assert 0.3 < wrong < 0.42
    for name in ("validation", "test"):
        assert torch.equal(getattr(clean, name).targets, getattr(noisy, name).targets)
    assert config_hash(DigitsConfig(label_noise=0.0)) == config_hash(DigitsConfig())
    again = DigitsConfig(label_noise=0.4, validation_seed=3).load(0)
    assert not torch.equal(again.train.targets, noisy.train.targets)
