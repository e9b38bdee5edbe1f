"""What is trained: everything that the members of an ensemble have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Literal, assert_never

import torch
from torch import Tensor, nn

from dynloss_core.config import (
    ADDED_LATER,
    PLUGIN_DIGEST,
    ConfigError,
    OneOf,
    reason_of,
    refuse_other_choices,
)
from dynloss_core.data import DATA_SETS, DataConfig, SpiralsConfig
from dynloss_core.losses import LossName, refusal_of_groups
from dynloss_core.models import MODELS, MLPConfig, ModelConfig, Traits, traits_of
from dynloss_core.oscillation import Oscillation
from dynloss_core.training.problem.augmentation import Augmentation
from dynloss_core.training.problem.learning_rate_cap import CurvatureRate

__all__ = ["Augmentation", "DType", "LearningRateSchedule", "Problem", "Training", "plain_refusal"]

DType = Literal["float32", "float64", "bfloat16"]

_STORED = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@dataclass(frozen=True)
class LearningRateSchedule:
    """The learning rate over a run, as a factor on a member's own (peak) learning rate.

    Args:
        warmup: share of the run over which the factor rises linearly from near 0 to 1.
        decay: how the factor falls afterwards.
        final: the factor at the end of the run, for `linear` and `cosine`.
        curvature: a cap on the rate that follows the curvature of F; None for no cap.
    """

    warmup: float = 0.0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    final: float = 0.0
    curvature: CurvatureRate | None = None

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        if not 0 <= self.warmup < 1:
            raise ConfigError("warmup", f"{self.warmup} is not a fraction of the run", "use [0, 1)")
        if not 0 <= self.final <= 1:
            raise ConfigError("final", f"{self.final} is not a factor", "use a number in [0, 1]")

    def factor(self, step: int, total_steps: int) -> float:
        """The factor for the next update, after `step` updates of `total_steps`."""
        warm = self.warmup * total_steps
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.decay == "constant":
            return 1.0
        done = (step - warm) / max(total_steps - warm, 1)
        if self.decay == "linear":
            return 1 + (self.final - 1) * done
        if self.decay == "cosine":
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        assert_never(self.decay)


@dataclass(frozen=True)
class Training:
    """How the members are trained. What differs between them is in `Member`.

    Args:
        loss: which dynamical loss.
        oscillation: what oscillates in it, and how.
        batch_size: samples per step; None for full-batch gradient descent. Each epoch visits a
            fresh permutation of the training set; an incomplete last batch is left out.
        nesterov: Nesterov's momentum instead of the classical one.
        sam_radius: rho of sharpness-aware minimisation, in units of the parameters: every gradient
            is taken where F is largest, to first order, within that distance (Foret et al. 2021,
            arXiv:2010.01412); 0 for the plain gradient. A step then costs as much as two.
        learning_rate_schedule: factor on every member's learning rate.
        augmentation: random changes to training images at each visit; evaluations see the images
            unchanged.
        dtype: the dtype of parameters and activations. `bfloat16` keeps parameters, updates and the
            loss in float32 and computes products and convolutions in bfloat16 (torch's autocast).
    """

    loss: LossName = "cross_entropy"
    oscillation: Oscillation = field(default_factory=Oscillation, metadata=ADDED_LATER)
    batch_size: int | None = None
    nesterov: bool = False
    sam_radius: float = field(default=0.0, metadata=ADDED_LATER)
    learning_rate_schedule: LearningRateSchedule = field(default_factory=LearningRateSchedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    dtype: DType = "float32"


@dataclass(frozen=True)
class Problem(Training):
    """What is trained, how, and for how long: all that the members have in common.

    Args:
        data: the data set.
        model: the network.
        steps: length of the run in optimiser steps.
        static_tail: steps at the end that train on the static loss (see `oscillation_stop`).
        evaluate_every: steps between two evaluations.
        plugins: digests of the plug-ins that its classes may depend on.
    """

    data: Annotated[DataConfig, OneOf(DATA_SETS)] = field(default_factory=SpiralsConfig)
    model: Annotated[ModelConfig, OneOf(MODELS)] = field(default_factory=MLPConfig)
    steps: int = 35_000
    static_tail: int = 5_000
    evaluate_every: int = 500
    plugins: tuple[str, ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        if self.steps < 1:
            raise ConfigError("steps", f"{self.steps} is below 1", "train for at least one step")
        if not 0 <= self.static_tail <= self.steps:
            raise ConfigError(
                "static_tail", f"{self.static_tail} is not within the run of {self.steps} steps"
            )
        if self.evaluate_every < 1:
            raise ConfigError("evaluate_every", f"{self.evaluate_every} is below 1", "use >= 1")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(
                "batch_size", f"{self.batch_size} is below 1", "use >= 1, or null for full batch"
            )
        if not 0 <= self.sam_radius < math.inf:
            raise ConfigError("sam_radius", f"{self.sam_radius} is not a distance", "use >= 0")
        self.augmentation.check(self.data)
        reason = None if self.oscillation.is_by_class else refusal_of_groups(self.loss)
        if reason is not None:
            raise ConfigError("oscillation.groups", reason, "use another loss, or groups: classes")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of parameters, updates and losses, as torch's own object."""
        return _STORED[self.dtype]

    @property
    def traits(self) -> Traits:
        """What an engine must know about the network, found from a built one.

        Raises:
            ConfigError: if the model refuses the data.
        """
        return _traits(self.model, self.data.input_shape, self.data.num_classes)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Inside it, a network on `device` computes in the dtype asked for; convert its outputs
        back to `torch_dtype`."""
        mixed = self.dtype == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed)


@lru_cache(maxsize=256)
def _traits(model: ModelConfig, input_shape: tuple[int, ...], num_classes: int) -> Traits:
    with torch.random.fork_rng(devices=[]), _plugin_errors_refused(model):
        try:
            with torch.device("meta"):  # shapes only, without memory
                network = model.build(input_shape, num_classes)
                traits = traits_of(network)
                inputs = torch.zeros(2, *input_shape)
        except (NotImplementedError, RuntimeError):  # it computes with values
            network = model.build(input_shape, num_classes)
            traits = traits_of(network)
            inputs = torch.zeros(2, *input_shape)
        if hasattr(model, PLUGIN_DIGEST):
            _refuse_other_outputs(model.name, network, inputs, num_classes)
    return traits


@contextmanager
def _plugin_errors_refused(model: ModelConfig) -> Iterator[None]:
    """Turn whatever a user's network raises when it is built into a refusal."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if not hasattr(model, PLUGIN_DIGEST):
            raise
        problem = f"{model.name!r} cannot be built: {type(error).__name__}: {reason_of(error)}"
        raise ConfigError("model", problem, "correct the network, or choose other data") from None


def _refuse_other_outputs(name: str, network: nn.Module, inputs: Tensor, classes: int) -> None:
    """Refuse a network that does not return logits (N, C), before anything starts."""
    shape = tuple(inputs.shape[1:])
    try:
        outputs = network.eval()(inputs)
    except Exception as error:
        reason, remedy = reason_of(error), "correct the network, or choose other data"
        if "Long" in reason:  # from an embedding: inputs are floats, as other layers need them
            remedy = "inputs are floats: begin the network with inputs.long()"
        problem = f"{name!r} fails on inputs (N, {', '.join(map(str, shape))}): {reason}"
        raise ConfigError("model", problem, remedy) from None
    given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if given != (len(inputs), classes):
        problem = f"{name!r} returns {given} for {len(inputs)} samples of {classes} classes"
        raise ConfigError("model", problem, "return one tensor of logits (N, C)")


def plain_refusal(problem: Problem) -> str | None:
    """Why an engine without augmentation and mixed precision cannot train a problem; None if it
    can."""
    if problem.augmentation.active:
        return "it does not augment images"
    if problem.dtype == "bfloat16":
        return "it only computes in float32 or float64"
    return None
