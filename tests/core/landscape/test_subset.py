"""Subsets to measure on."""

from __future__ import annotations

import pytest
import torch

from dynloss_core.data import Labelled, SpiralsConfig
from dynloss_core.landscape import LandscapeError, balanced_subset


def test_every_class_as_often_as_the_others() -> None:
    """The spirals are sorted by class, and each class from the middle outwards."""
    train = SpiralsConfig(points_per_class=50).load(0).train
    for samples in (2, 3, 10, 60, 149):
        found = balanced_subset(train, samples)
        assert len(found) == samples
        counts = torch.bincount(found.targets, minlength=3)
        assert int(counts.max() - counts.min()) <= 1
        numbered = Labelled(torch.arange(150.0)[:, None], train.targets)
        assert len(set(balanced_subset(numbered, samples).inputs.flatten().tolist())) == samples
    radius = balanced_subset(train, 60).inputs.norm(dim=1)
    assert 0.35 < radius.mean() < 0.65


def test_a_larger_subset_holds_the_smaller_ones() -> None:
    train = SpiralsConfig(points_per_class=50).load(0).train
    small, large = balanced_subset(train, 20), balanced_subset(train, 70)
    assert torch.equal(large.inputs[:20], small.inputs)
    assert torch.equal(large.targets[:20], small.targets)


def test_classes_that_run_out_leave_the_rest_to_the_others() -> None:
    targets = torch.tensor([0] * 20 + [1] * 3)
    found = balanced_subset(Labelled(torch.arange(23.0)[:, None], targets), 16)
    assert torch.bincount(found.targets).tolist() == [13, 3]


def test_all_are_all_in_their_order() -> None:
    train = SpiralsConfig(points_per_class=5).load(0).train
    for samples in (None, 15, 100):
        assert balanced_subset(train, samples) is train
    with pytest.raises(LandscapeError, match="use >= 1"):
        balanced_subset(train, 0)
