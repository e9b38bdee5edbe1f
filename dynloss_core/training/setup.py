"""A problem and its members made concrete: splits, initial networks and class weights.

Symbols
    M      members
    C      classes
    N      training samples
    B      batch size
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from dynloss_core.config import ConfigError
from dynloss_core.data import Splits
from dynloss_core.models import initialise
from dynloss_core.schedules import class_weights
from dynloss_core.seeding import Stream, generator
from dynloss_core.training.augmentation import augmentation_draws
from dynloss_core.training.members import Member
from dynloss_core.training.problem import Problem

__all__ = ["Setup", "batch_order", "ensemble_class_weights", "steps_per_epoch"]

ClassWeights = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Setup:
    """What every engine starts from.

    Args:
        problem: what the members have in common.
        members: M members.
        splits: the data of each member; members may share one object.
        networks: the initial network of each member, never changed by an engine; members of one
            seed share one object.
        class_weights: integer steps (n,) -> class weights (n, M, C) in float64, on their device.
    """

    problem: Problem
    members: tuple[Member, ...]
    splits: tuple[Splits, ...]
    networks: tuple[nn.Module, ...]
    class_weights: ClassWeights

    @classmethod
    def build(cls, problem: Problem, members: Sequence[Member]) -> Setup:
        """Load the data and draw the initial networks of `members`, each from its own seed.

        Raises:
            ValueError: without members.
            ConfigError: if a batch is larger than the training set, or samples cannot be augmented
                as the problem asks.
        """
        if not members:
            raise ValueError("an ensemble needs at least one member")
        seeds = {member.seed for member in members}
        splits = {seed: problem.data.load(seed) for seed in seeds}
        networks = {seed: _initial_network(problem, splits[seed], seed) for seed in seeds}
        some = splits[members[0].seed]
        steps_per_epoch(problem)
        problem.augmentation.check(some.input_shape)
        return cls(
            problem=problem,
            members=tuple(members),
            splits=tuple(splits[member.seed] for member in members),
            networks=tuple(networks[member.seed] for member in members),
            class_weights=ensemble_class_weights(problem, members, some.num_classes),
        )

    @property
    def num_classes(self) -> int:
        """C, the same for all members."""
        return self.splits[0].num_classes

    def batch(self, member: int, step: int) -> Tensor | None:
        """Indices (B,) of a member's training batch at `step`; None for the full batch."""
        size = self.problem.batch_size
        if size is None:
            return None
        epoch, place, samples = self._place(member, step)
        return batch_order(self.members[member].seed, epoch, samples)[place]

    def augmentation_draws(self, member: int, step: int) -> Tensor | None:
        """What happens to each sample of that batch, (B, 3), see `augmentation_draws`; None if
        nothing does. A full batch is an epoch of its own."""
        augmentation = self.problem.augmentation
        if not augmentation.active:
            return None
        epoch, place, samples = self._place(member, step)
        seed, crop, flip = self.members[member].seed, augmentation.crop, augmentation.flip
        return augmentation_draws(seed, epoch, samples, crop, flip=flip)[place]

    def _place(self, member: int, step: int) -> tuple[int, slice, int]:
        """The epoch of a step, the place of its batch in the epoch, and N."""
        samples = len(self.splits[member].train)
        size = self.problem.batch_size or samples
        epoch, position = divmod(step, samples // size)
        return epoch, slice(position * size, (position + 1) * size), samples


def steps_per_epoch(problem: Problem) -> int:
    """Optimiser steps in which the training set is visited once; 1 for full batch.

    Raises:
        ConfigError: if a batch is larger than the training set.
    """
    if problem.batch_size is None:
        return 1
    samples = problem.data.training_samples
    if problem.batch_size > samples:
        raise ConfigError(
            "training.batch_size",
            f"{problem.batch_size} exceeds the {samples} training samples",
            "use a smaller batch, or null for full batch",
        )
    return samples // problem.batch_size


@lru_cache(maxsize=256)  # of the seeds in flight; 360 KB each for 45,000 samples
def batch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order (N,) in which a seed's epoch visits the training set.

    It is a pure function of the epoch: a resumed run needs no generator state.
    """
    return torch.from_numpy(generator(seed, Stream.BATCH_ORDER, epoch).permutation(samples))


def ensemble_class_weights(
    problem: Problem, members: Sequence[Member], num_classes: int
) -> ClassWeights:
    """The schedules of all members as one function: steps (n,) -> (n, M, C), in float64."""
    schedules = [
        member.schedule(num_classes, problem.steps, problem.static_tail) for member in members
    ]
    period = torch.tensor([schedule.period for schedule in schedules])
    amplitude = torch.tensor([schedule.amplitude for schedule in schedules], dtype=torch.float64)
    stop = torch.tensor([schedule.stop for schedule in schedules])

    def weights(steps: Tensor) -> Tensor:
        own = [each.to(steps.device) for each in (period, amplitude, stop)]
        return class_weights(steps[:, None], own[0], own[1], own[2], num_classes)

    return weights


def _initial_network(problem: Problem, splits: Splits, seed: int) -> nn.Module:
    network = problem.model.build(splits.input_shape, splits.num_classes).to(problem.torch_dtype)
    draws = generator(seed, Stream.INITIALISATION)
    return initialise(network, problem.model.initialisation, draws)
