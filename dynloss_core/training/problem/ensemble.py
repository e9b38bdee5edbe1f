"""A problem and its members made concrete: splits, initial networks and class weights.

Symbols
    M      members
    C      classes
    N      training samples
    B      batch size
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from dynloss_core.config import ConfigError
from dynloss_core.data import Labelled, Splits
from dynloss_core.landscape.subset import balanced_subset
from dynloss_core.landscape.trackers.tracker import TrackedProblem
from dynloss_core.models import Traits, initialise, traits_of
from dynloss_core.models.initialisation import is_left_as_built
from dynloss_core.oscillation import GroupWeights
from dynloss_core.seeding import Stream, generator
from dynloss_core.training.problem.augmentation import augmentation_draws
from dynloss_core.training.problem.member import Member
from dynloss_core.training.problem.problem import Problem

__all__ = ["Setup", "batch_order", "ensemble_class_weights", "steps_per_epoch"]

ClassWeights = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Setup:
    """An ensemble as every engine starts from it.

    Args:
        problem: what the members have in common.
        members: M members.
        splits: the data of each member; members may share one object.
        networks: the initial network of each member, never changed by an engine; members with the
            same seed share one object.
        class_weights: integer steps (n,) -> class weights (n, M, C) in float64, on the device of
            the steps; (n, M, G) where groups of samples oscillate.
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
            ConfigError: if a batch is larger than the training set, if a network is not determined
                by its seed, or if it cannot evaluate samples independently.
        """
        if not members:
            raise ValueError("an ensemble needs at least one member")
        seeds = {member.seed for member in members}
        splits = {seed: _grouped(problem, problem.data.load(seed), seed) for seed in seeds}
        networks = {seed: _initial_network(problem, splits[seed], seed) for seed in seeds}
        first_splits = splits[members[0].seed]
        first = networks[members[0].seed]
        if _left_as_built(first):
            _refuse_other_draws(problem, first_splits, members[0].seed)
        steps_per_epoch(problem)
        setup = cls(
            problem=problem,
            members=tuple(members),
            splits=tuple(splits[member.seed] for member in members),
            networks=tuple(networks[member.seed] for member in members),
            class_weights=ensemble_class_weights(problem, members, first_splits.num_classes),
        )
        if setup.traits.unusual is not None:
            _require_samplewise_evaluation(problem, first_splits, first)
        return setup

    @property
    def num_classes(self) -> int:
        """C, the same for all members."""
        return self.splits[0].num_classes

    def weights_of_classes(self, steps: Tensor, members: Sequence[int]) -> Tensor:
        """The mean weight of the samples of each class at n steps, (n, K, C): the class weights,
        where classes oscillate."""
        weights = self.class_weights(steps)[:, list(members)]  # (n, K, C or G)
        if self.problem.oscillation.is_by_class:
            return weights
        means = []
        for row, member in enumerate(members):
            train = self.splits[member].train
            one_hot = torch.nn.functional.one_hot(train.targets, self.num_classes).double()
            shares = torch.zeros(weights.shape[-1], self.num_classes, dtype=torch.float64)
            assert train.groups is not None
            shares.index_add_(0, train.groups, one_hot / one_hot.sum(0).clamp(min=1))  # (G, C)
            means.append(weights[:, row] @ shares)
        return torch.stack(means, 1)

    def groups(self, device: torch.device | str = "cpu") -> Tensor | None:
        """The group of each training sample, (M, N); None where a sample has the weight of its
        class."""
        own = [splits.train.groups for splits in self.splits]
        known = [groups for groups in own if groups is not None]
        return torch.stack(known).to(device) if known else None

    def own_splits(self) -> tuple[Splits, ...]:
        """The data of each member, or of one of them if all have the same samples."""
        samples = self.splits[0].train.inputs
        shared = all(splits.train.inputs is samples for splits in self.splits)
        return self.splits[:1] if shared else self.splits

    def tracked(self, members: Sequence[int], samples: int | None) -> TrackedProblem:
        """Some members as the problem of a tracker, with F a mean over so many training samples
        (see `balanced_subset`)."""
        own = [self.splits[m].train for m in members]
        if all(train is own[0] for train in own):
            del own[1:]
        return TrackedProblem(
            network=copy.deepcopy(self.networks[members[0]]).eval(),
            loss=self.problem.loss,
            data=[
                balanced_subset(train, samples).to(self.problem.torch_dtype, "cpu") for train in own
            ],
            seeds=[self.members[m].seed for m in members],
        )

    @cached_property
    def traits(self) -> Traits:
        """What an engine must know about the networks."""
        return traits_of(self.networks[0])

    def batch(self, member: int, step: int) -> Tensor | None:
        """Indices (B,) of a member's training batch at `step`; None for the full batch."""
        size = self.problem.batch_size
        if size is None:
            return None
        epoch, place, samples = self._place(member, step)
        return batch_order(self.members[member].seed, epoch, samples)[place]

    def augmentation_draws(self, member: int, step: int) -> Tensor | None:
        """The augmentation of each sample of the batch at `step`, (B, 3), see the function
        `augmentation_draws`; None without augmentation. A full batch is an epoch of its own."""
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
    """Optimiser steps per visit of the training set; 1 for full batch.

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


@lru_cache(maxsize=256)  # for the seeds in training; 360 KB each for 45,000 samples
def batch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order (N,) in which a seed's epoch visits the training set.

    It is a pure function of the epoch: a resumed run needs no generator state.
    """
    return torch.from_numpy(generator(seed, Stream.BATCH_ORDER, epoch).permutation(samples))


def ensemble_class_weights(
    problem: Problem, members: Sequence[Member], num_classes: int
) -> ClassWeights:
    """The weights of all members as one function: steps (n,) -> (n, M, G), in float64."""
    steps, tail, oscillation = problem.steps, problem.static_tail, problem.oscillation
    return GroupWeights(
        oscillation,
        oscillation.count(num_classes, problem.data.training_samples),
        torch.tensor([member.nominal_period for member in members]),
        torch.tensor([member.amplitude for member in members], dtype=torch.float64),
        torch.tensor([member.stop(steps, tail) for member in members]),
        [member.seed for member in members],
    )


def _grouped(problem: Problem, splits: Splits, seed: int) -> Splits:
    """The splits of a seed: with the groups of the training samples if groups oscillate, and
    without the data set's own groups if classes do."""
    oscillation, train = problem.oscillation, splits.train
    groups = None
    if not oscillation.is_by_class:
        groups = oscillation.assign(train.targets, splits.num_classes, seed, train.groups)
    elif train.groups is None:
        return splits
    return replace(splits, train=replace(train, groups=groups))


def _initial_network(problem: Problem, splits: Splits, seed: int) -> nn.Module:
    draws = generator(seed, Stream.INITIALISATION)
    return initialise(_built(problem, splits, seed), problem.model.initialisation, draws)


def _built(problem: Problem, splits: Splits, seed: int) -> nn.Module:
    """The network as `build` returns it, under the random state of the seed."""
    with torch.random.fork_rng(devices=[]):
        state = generator(seed, Stream.INITIALISATION, 0).integers(2**63)
        torch.default_generator.manual_seed(int(state))
        network = problem.model.build(splits.input_shape, splits.num_classes)
    return network.to(problem.torch_dtype)


def _refuse_other_draws(problem: Problem, splits: Splits, seed: int) -> None:
    """Refuse a network that draws parameters without an initialisation rule from anything but
    torch's random state: one seed would give different networks."""
    once, again = (_left_as_built(_built(problem, splits, seed)) for _ in range(2))
    for name, tensor in once.items():
        if name not in again or not torch.equal(tensor, again[name]):
            raise ConfigError(
                "model",
                f"{problem.model.name!r} builds a different {name!r} each time from the same seed",
                "draw it with torch, whose random state the seed determines",
            )


def _require_samplewise_evaluation(problem: Problem, splits: Splits, network: nn.Module) -> None:
    """Refuse a network whose outputs for a sample in evaluation differ from call to call, or depend
    on the other samples: its metrics would depend on how many are seen at once."""
    few = Labelled(splits.train.inputs[:3], splits.train.targets[:3], splits.train.scale)
    few = few.to(problem.torch_dtype, "cpu")
    seen = copy.deepcopy(network).eval()
    with torch.no_grad():
        together, again, fewer = seen(few.inputs), seen(few.inputs), seen(few.inputs[:2])
    for other, when in ((again, "from call to call"), (fewer, "in different batches")):
        if not torch.allclose(together[: len(other)], other, rtol=1e-3, atol=1e-3, equal_nan=True):
            raise ConfigError(
                "model",
                f"{problem.model.name!r} in evaluation gives a sample different outputs {when}",
                "make it treat each sample on its own there, without random draws",
            )


def _left_as_built(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers that a user's own modules hold themselves."""
    return {
        f"{name}.{own}".lstrip("."): tensor
        for name, layer in network.named_modules()
        if is_left_as_built(layer)
        for named in (layer.named_parameters, layer.named_buffers)
        for own, tensor in named(recurse=False)
    }
