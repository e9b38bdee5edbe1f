"""The interface of all engines: a resumable generator of evaluations over an ensemble.

The file is long because the loop and its rules are one thing, the same for every engine.

Symbols
    M      members
    K      members whose every step is traced
    C      classes
    N      samples of a split
    B      samples of a training batch; N for full batch
    n      steps between two evaluations
    k      moments: steps at which the curvature is measured
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dynloss_core.compute.deterministic import deterministic
from dynloss_core.landscape.trackers.choose_tracker import stack_parameters
from dynloss_core.losses import weighted_loss
from dynloss_core.training.probes import Prober, Probes
from dynloss_core.training.problem.ensemble import Setup
from dynloss_core.training.problem.evaluations import (
    CurvatureSeries,
    Evaluation,
    HeldOut,
    History,
    Trace,
    ValleySeries,
)
from dynloss_core.training.problem.problem import Problem
from dynloss_core.training.rate_follower import RateFollower
from dynloss_core.training.saved_states import same_layout
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["Engine", "SplitName"]

SplitName = Literal["train", "validation", "test"]


class Engine(ABC):
    """Trains the members of a setup together and yields an `Evaluation` at every report point.

    A subclass holds the parameters: it advances them, computes the outputs, and saves them. The
    loop, the metrics and the handling of diverged and stopped members are here, so they are the
    same for all engines.

    Args:
        setup: problem, members, data, initial networks.
        device: where to train.
        traced: indices of the members whose every step is recorded. Tracing does not change the
            training.
        probes: whose curvature to measure, and when. Probing does not change the training either.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """What it is, in three to six words."""

    def __init__(
        self,
        setup: Setup,
        device: torch.device | str = "cpu",
        *,
        traced: Sequence[int] = (),
        probes: Probes | None = None,
    ) -> None:
        self.setup = setup
        self.device = torch.device(device)
        self.traced = tuple(sorted(set(traced)))
        if self.traced and not 0 <= self.traced[0] <= self.traced[-1] < len(setup.members):
            raise ValueError(f"traced must name members 0 to {len(setup.members) - 1}")
        self._prober = None if probes is None else Prober(probes, setup, self.device)
        rule = setup.problem.learning_rate_schedule.curvature
        self._follower = None if rule is None else RateFollower(rule, setup, self.device)
        self._caps: Tensor | None = None  # (M,) on learning rates, on the device
        self.step = 0
        self.diverged_step = torch.full((len(setup.members),), -1)
        self.stopped_step = torch.full((len(setup.members),), -1)
        self._last_evaluation = -1
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Convert the initial networks and the data to the engine's own form."""

    @classmethod
    @abstractmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        """Why this engine cannot train `problem` on `device` here; None if it can."""

    @classmethod
    def is_faster(cls, problem: Problem) -> bool:
        """Whether it trains `problem`, which it can, faster than the engines after it in the
        table."""
        return True

    def evaluations(self) -> Iterator[Evaluation]:
        """Train to the end of the budget; evaluate before the first step, every `evaluate_every`
        steps and after the last. End early if every member has diverged or was stopped.

        Between two evaluations the engine can be saved. A loaded engine continues from there and
        yields what the uninterrupted run would, bit for bit.
        """
        problem = self.setup.problem
        if self._last_evaluation < self.step:
            self._renew_caps()
            due = self._prober is not None and self._prober.is_due(self.step)
            yield self._evaluate(None, *(self._probe() if due else (None, None)))
        while not self.finished:
            next_report = (self.step // problem.evaluate_every + 1) * problem.evaluate_every
            target = min(next_report, problem.steps)
            yield self._evaluate(*self._train(target - self.step))

    @property
    def frozen(self) -> Tensor:
        """Which members no longer train, (M,), because they diverged or were stopped."""
        return (self.diverged_step >= 0) | (self.stopped_step >= 0)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent or every member is frozen."""
        return self.step >= self.setup.problem.steps or bool(self.frozen.all())

    def stop(self, members: Sequence[int]) -> None:
        """Stop members between two evaluations: they no longer train, and no other member is
        affected.

        From then on their metrics and parameters are NaN, like those of diverged members, so read
        what is needed beforehand. A member that is already frozen stays as it is.

        Raises:
            ValueError: if it names no member of the ensemble.
        """
        chosen = torch.zeros_like(self.frozen)
        for member in members:
            if not 0 <= member < len(chosen):
                raise ValueError(f"member {member} is not one of 0 to {len(chosen) - 1}")
            chosen[member] = True
        chosen &= ~self.frozen
        if bool(chosen.any()):
            self.stopped_step[chosen] = self.step
            self._freeze(chosen)

    def run(self) -> History:
        """Train from the current step to the end of the budget, and return the whole history."""
        evaluations = tuple(self.evaluations())
        traces = [evaluation.trace for evaluation in evaluations if evaluation.trace is not None]
        series = [
            evaluation.curvature for evaluation in evaluations if evaluation.curvature is not None
        ]
        valleys = [
            evaluation.valleys for evaluation in evaluations if evaluation.valleys is not None
        ]
        members = range(len(self.setup.members))
        return History(
            evaluations=evaluations,
            trace=Trace.joined(traces) if traces else None,
            curvature=CurvatureSeries.joined(series) if series else None,
            valleys=ValleySeries.joined(valleys) if valleys else None,
            parameters=tuple(self.parameters(member) for member in members),
        )

    def train(self, steps: int) -> None:
        """Train for `steps` steps without an evaluation; what is recorded on the way is dropped."""
        if self.step == 0:
            self._renew_caps()
        self._train(steps)

    def parameters(self, member: int) -> dict[str, Tensor]:
        """A member's current parameters and batch-normalisation statistics on the CPU, named as in
        its network's `state_dict`; NaN if it has diverged or was stopped."""
        named = self._member_parameters(member)
        if self.frozen[member]:
            return {
                name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor
                for name, tensor in named.items()
            }
        return named

    @deterministic()
    def held_out(self) -> HeldOut:
        """Metrics on the test set with the current parameters; NaN for a stopped member."""
        loss, accuracy, _ = self._metrics("test", self._unit_weights())
        for metric in (loss, accuracy):
            metric[self.stopped_step >= 0] = torch.nan
        return HeldOut(loss, accuracy)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs, as plain tensors and numbers."""
        return {
            "engine": self.name,
            "step": self.step,
            "last_evaluation": self._last_evaluation,
            "diverged_step": self.diverged_step.clone(),
            "stopped_step": self.stopped_step.clone(),
            "parameters": self._parameters_state(),
            "probes": None if self._prober is None else self._prober.state_dict(),
            "rate": None if self._follower is None else self._follower.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. An engine that has refused one can no longer be used.

        Raises:
            ValueError: if it was saved by another engine, or by an ensemble of another size or
                architecture.
            KeyError: if the state is incomplete.
        """
        if state["engine"] != self.name or len(state["diverged_step"]) != len(self.setup.members):
            raise ValueError(
                f"this state belongs to engine {state['engine']!r} with "
                f"{len(state['diverged_step'])} members, not to {self.name!r} with "
                f"{len(self.setup.members)}"
            )
        if not same_layout(state["parameters"], self._parameters_state()):
            raise ValueError("this state belongs to networks with other parameters")
        self.step = int(state["step"])
        self._last_evaluation = int(state["last_evaluation"])
        self.diverged_step = state["diverged_step"].clone()
        self.stopped_step = state["stopped_step"].clone()
        self._load_parameters_state(state["parameters"])
        if self._prober is not None and state["probes"] is not None:
            self._prober.load_state_dict(state["probes"])
        if self._follower is not None:
            self._follower.load_state_dict(state["rate"])
            self._take_caps()

    @abstractmethod
    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        """Do `steps` updates, starting with the class weights of `self.step`."""

    @abstractmethod
    def _outputs(self, split: SplitName) -> Tensor:
        """Outputs (M, N, C) on a split with the current parameters."""

    @abstractmethod
    def _freeze(self, members: Tensor) -> None:
        """Freeze the members (bool, (M,)) for good: they must not affect others, nor cost anything
        where they can be skipped. Their parameters may be lost."""

    @abstractmethod
    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        """A copy of a member's parameters on the CPU."""

    @abstractmethod
    def _parameters_state(self) -> Any: ...

    @abstractmethod
    def _load_parameters_state(self, state: Any) -> None: ...

    def _advance_by_moments(
        self, moments: range, members: Sequence[int], trace: TraceBuffer | None
    ) -> Mapping[str, Tensor]:
        """Advance to the last of the moments (numbers of steps), and return the parameters of some
        members at each of them, (k, len(members), ...); NaN for a frozen member."""
        (moment,) = moments
        self._advance(moment - self.step, trace)
        return self._present(members)

    def _moments_at_once(self) -> int:
        """The most moments that `_advance_by_moments` accepts."""
        return 1

    @deterministic()
    def _train(
        self, steps: int
    ) -> tuple[Trace | None, CurvatureSeries | None, ValleySeries | None]:
        """Train for `steps` steps, with the probes on the way."""
        traces, series, valleys, target = [], [], [], self.step + steps
        while self.step < target:
            last = target
            if self._follower is not None:
                last = min(last, self._follower.next_due(self.step))
            moments = range(0)
            if self._prober is not None:
                moments = self._prober.moments(self.step, last)[: self._moments_at_once()]
            stop = moments[-1] if moments else last
            trace, parameters = self._watch(stop - self.step, moments)
            rates = self._learning_rates(moments[:-1])  # under the caps in force until now
            self.step = stop
            self._renew_caps()
            if trace is not None:
                traces.append(trace)
            if self._prober is not None and moments:
                rates = torch.cat([rates, self._learning_rates(moments[-1:])])
                curvature, valley = self._prober.measure(moments, parameters, rates)
                series.append(curvature)
                if valley is not None:
                    valleys.append(valley)
        return (
            Trace.joined(traces) if traces else None,
            CurvatureSeries.joined(series) if series else None,
            ValleySeries.joined(valleys) if valleys else None,
        )

    @deterministic()
    def _probe(self) -> tuple[CurvatureSeries, ValleySeries | None]:
        """The curvature, and the valleys, before the first step."""
        assert self._prober is not None
        present = self._present(self._prober.members)
        return self._prober.measure([self.step], present, self._learning_rates([self.step]))

    @deterministic()
    def _renew_caps(self) -> None:
        """Measure the curvature that the learning rate follows, if that is due."""
        follower = self._follower
        if follower is None or self.step % follower.rule.every:
            return
        present = self._present(range(len(self.setup.members)))
        follower.measure(self.step, {name: tensor[0] for name, tensor in present.items()})
        self._take_caps()

    def _take_caps(self) -> None:
        assert self._follower is not None
        self._caps = self._follower.caps.to(self.device, self.setup.problem.torch_dtype)

    def _learning_rates(self, steps: Sequence[int]) -> Tensor:
        """Learning rates (n, M) of the updates after the given steps, under the current caps, in
        float64."""
        problem, members = self.setup.problem, self.setup.members
        schedule = problem.learning_rate_schedule
        factors = [schedule.factor(step, problem.steps) for step in steps]
        peaks = torch.tensor([member.learning_rate for member in members], dtype=torch.float64)
        rates = torch.tensor(factors, dtype=torch.float64)[:, None] * peaks
        return rates if self._follower is None else torch.minimum(rates, self._follower.caps)

    def _present(self, members: Sequence[int]) -> dict[str, Tensor]:
        """The members' current parameters, (1, len(members), ...)."""
        stacked = stack_parameters([self.parameters(member) for member in members])
        return {name: tensor[None] for name, tensor in stacked.items()}

    def _active(self) -> list[int]:
        """The members that still train."""
        return [member for member, frozen in enumerate(self.frozen.tolist()) if not frozen]

    def _advance_for_probes(
        self, steps: int, moments: range, trace: TraceBuffer | None
    ) -> Mapping[str, Tensor]:
        """Advance; given moments, to the last of them, and return the parameters to measure."""
        if self._prober is not None and moments:
            return self._advance_by_moments(moments, self._prober.members, trace)
        self._advance(steps, trace)
        return {}

    def _watch(self, steps: int, moments: range) -> tuple[Trace | None, Mapping[str, Tensor]]:
        """Advance, and return a trace of what the engine saw, if one was asked for."""
        if not self.traced:
            return None, self._advance_for_probes(steps, moments, None)
        every_step = torch.arange(self.step, self.step + steps)
        frozen = self.frozen  # before these steps
        buffer = TraceBuffer.empty(self.setup, self.traced, steps, self.device)
        parameters = self._advance_for_probes(steps, moments, buffer)
        rates = self._learning_rates(every_step.tolist())
        return buffer.trace(self.setup, every_step, rates, frozen), parameters

    @deterministic()
    def _evaluate(
        self,
        trace: Trace | None = None,
        curvature: CurvatureSeries | None = None,
        valleys: ValleySeries | None = None,
    ) -> Evaluation:
        weights = self.setup.class_weights(torch.tensor([self.step]))[0].to(self.device)
        train_loss, train_accuracy, weighted = self._metrics("train", weights)
        validation_loss, validation_accuracy, _ = self._metrics("validation", self._unit_weights())
        fresh = ~self.frozen & ~torch.isfinite(train_loss)
        if bool(fresh.any()):
            self.diverged_step[fresh] = self.step
            self._freeze(fresh)
        metrics = torch.stack(
            [weighted, train_loss, train_accuracy, validation_loss, validation_accuracy]
        )
        metrics[:, self.frozen] = torch.nan
        self._last_evaluation = self.step
        weighted, train_loss, train_accuracy, validation_loss, validation_accuracy = metrics
        return Evaluation(
            step=self.step,
            weighted_loss=weighted,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            diverged_step=self.diverged_step.clone(),
            learning_rate=self._learning_rates([self.step])[0],
            trace=trace,
            curvature=curvature,
            valleys=valleys,
        )

    def _metrics(self, split: SplitName, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Static loss, accuracy and weighted loss of every member on a split, (M,) each."""
        outputs = self._outputs(split).double()
        targets = self._targets(split)  # (M, N)
        loss = torch.vmap(partial(weighted_loss, self.setup.problem.loss))
        static = loss(outputs, targets, self._unit_weights())
        accuracy = (outputs.argmax(-1) == targets).double().mean(-1)
        groups = self.setup.groups(self.device) if split == "train" else None
        seen = (
            (outputs, targets, weights) if groups is None else (outputs, targets, weights, groups)
        )
        return static.cpu(), accuracy.cpu(), loss(*seen).cpu()

    def _unit_weights(self) -> Tensor:
        shape = (len(self.setup.members), self.setup.num_classes)
        return torch.ones(shape, dtype=torch.float64, device=self.device)

    def _targets(self, split: SplitName) -> Tensor:
        targets = [getattr(splits, split).targets for splits in self.setup.splits]
        return torch.stack(targets).to(self.device)  # (M, N)
