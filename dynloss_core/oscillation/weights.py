r"""The weights of the groups at any step, for one schedule or an ensemble of schedules.

Symbols
    M      members
    G      groups
    n      steps asked for
    T      period in steps: how long ONE group stays active (a full round takes G*T steps)
    A      amplitude, A >= 1; A = 1 is the static loss
    t      step: number of optimiser updates done so far, t = 0, 1, 2, ..., plus the phase
    k      number of the turn, k = t // T
    tau    step inside the turn, tau = t mod T
    s      elevation, 0 <= s <= 1, of the shape at tau
    m      raw weight of an active group, 1 + (A - 1) s, or its inverse if the direction is down
    Gamma  weights of the groups, (n, M, G)

If groups take turns, one is active and

.. math:: \Gamma_g = \frac{G\, (m\ \text{if}\ g\ \text{is active else}\ 1)}{m + G - 1};

if all oscillate at once, :math:`\Gamma_g = G m_g / \sum_h m_h`. A single group has
:math:`\Gamma = m / \bar m` with the mean of m over a period.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dynloss_core.oscillation.groups import GROUPS
from dynloss_core.oscillation.orders import active_groups
from dynloss_core.oscillation.oscillation import Oscillation
from dynloss_core.oscillation.shapes import SHAPES
from dynloss_core.seeding import Stream, generator

__all__ = ["GroupWeights", "OneGroupWeights", "shift_of"]

_MAX_DRAWN_TURNS = 2**14  # for a run of unknown length


class GroupWeights:
    """Integer steps (n,) -> Gamma (n, M, G) in float64, on the device of the steps.

    Args:
        oscillation: what the members have in common.
        groups: G.
        period, amplitude, stop: (M,) of each member: T, A, and the step from which all weights are
            1.
        seeds: the seed of each member's random turns and phases.
    """

    def __init__(
        self,
        oscillation: Oscillation,
        groups: int,
        period: Tensor,
        amplitude: Tensor,
        stop: Tensor,
        seeds: Sequence[int],
    ) -> None:
        self.groups = groups
        self._oscillation, self._seeds = oscillation, tuple(seeds)
        self._period, self._amplitude, self._stop = period, amplitude.double(), stop
        self._shift = torch.stack([
            shift_of(oscillation, groups, int(T), seed)
            for T, seed in zip(period, self._seeds, strict=True)
        ])  # fmt: skip
        self._turns = torch.empty(len(self._seeds), 0, dtype=torch.int64)
        self._mean = torch.tensor(
            [
                _mean(oscillation, groups, int(T), float(A))
                for T, A in zip(period, self._amplitude, strict=True)
            ],
            dtype=torch.float64,
        )

    def __call__(self, steps: Tensor) -> Tensor:
        period, amplitude, stop, shift, mean = (
            tensor.to(steps.device)
            for tensor in (self._period, self._amplitude, self._stop, self._shift, self._mean)
        )
        t = steps[:, None]
        if _all_oscillate(self._oscillation):  # one more axis, for the groups
            t = t[..., None]
            period, amplitude, stop = period[:, None], amplitude[:, None], stop[:, None]
        return _weights(
            self._oscillation, self.groups, t, period, amplitude, stop, shift, mean, self._active
        )

    def _active(self, turn: Tensor) -> Tensor:
        """The active group of turns (n, M)."""
        if self._oscillation.order == "cyclic":
            return torch.remainder(turn, self.groups)
        last = int(turn.max()) + 1 if turn.numel() else 0
        if last > self._turns.shape[1]:  # twice as many, so that a long run seldom draws
            drawn = [
                active_groups(self._oscillation.order, self.groups, 2 * last, seed)
                for seed in self._seeds
            ]
            self._turns = torch.from_numpy(np.stack(drawn))
        return self._turns.to(turn.device).gather(1, turn.T).T


class OneGroupWeights(nn.Module):
    """A step () -> Gamma (G,) in float64, for one schedule.

    It uses only tensor operations, so it can be compiled and recorded, and never waits for a
    device. It adds nothing to a state_dict.

    Args:
        oscillation: what oscillates.
        groups: G.
        period: T.
        amplitude: A.
        stop: the step from which all weights are 1; None: never, and random orders then repeat
            after 16,384 turns.
        seed: the seed of random turns and phases.
    """

    shift: Tensor
    turns: Tensor

    def __init__(
        self,
        oscillation: Oscillation,
        groups: int,
        period: int,
        amplitude: float,
        stop: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.groups, self.period, self.amplitude = groups, period, amplitude
        self.stop = torch.iinfo(torch.int64).max if stop is None else stop
        self._oscillation, self._seed = oscillation, seed
        self._mean = _mean(oscillation, groups, period, amplitude)
        self._drawn = _MAX_DRAWN_TURNS if stop is None else stop // period + 2
        self.register_buffer("shift", self._first_shift(), persistent=False)
        self.register_buffer("turns", self._first_turns(), persistent=False)

    def reset_parameters(self) -> None:
        """Draw the random turns and phases again, as needed after `to_empty`."""
        self.shift.copy_(self._first_shift())
        self.turns.copy_(self._first_turns())

    def forward(self, step: Tensor) -> Tensor:
        t = step.reshape(1, 1, 1) if _all_oscillate(self._oscillation) else step.reshape(1, 1)
        return _weights(
            self._oscillation,
            self.groups,
            t,
            self.period,
            self.amplitude,
            self.stop,
            self.shift,
            self._mean,
            self._active,
        )[0, 0]

    def _active(self, turn: Tensor) -> Tensor:
        if self._oscillation.order == "cyclic":
            return torch.remainder(turn, self.groups)
        return self.turns[torch.remainder(turn, self._drawn)]

    def _first_shift(self) -> Tensor:
        return shift_of(self._oscillation, self.groups, self.period, self._seed)

    def _first_turns(self) -> Tensor:
        if self._oscillation.order == "cyclic":
            return torch.empty(0, dtype=torch.int64, device="cpu")
        drawn = active_groups(self._oscillation.order, self.groups, self._drawn, self._seed)
        return torch.from_numpy(drawn)


def _weights(
    oscillation: Oscillation,
    groups: int,
    t: Tensor,
    period: Tensor | int,
    amplitude: Tensor | float,
    stop: Tensor | int,
    shift: Tensor,
    mean: Tensor | float,
    active: Callable[[Tensor], Tensor],
) -> Tensor:
    """Gamma (n, M, G) at steps t (n, 1), or (n, 1, 1) if all groups oscillate. The other tensors
    are (M,), or in that case (M, 1) with a shift (M, G); `active` maps turns (n, M) to groups."""
    moves, t = t < stop, t + shift
    elevation = SHAPES[oscillation.shape](torch.remainder(t, period), period)
    raw = torch.where(moves, _raw(oscillation, elevation, amplitude), 1.0)
    if _all_oscillate(oscillation):  # (n, M, G)
        return raw * (groups / raw.sum(-1, keepdim=True)) if oscillation.normalised else raw
    if _is_single_group(oscillation, groups):
        return torch.where(moves, raw / mean, 1.0)[..., None]
    is_active = torch.arange(groups, device=t.device) == active(
        torch.div(t, period, rounding_mode="floor")
    ).unsqueeze(-1)
    weights = torch.where(is_active, raw[..., None], 1.0)
    if oscillation.normalised:
        weights = weights * (groups / (raw + (groups - 1)))[..., None]
    return weights


def _raw(oscillation: Oscillation, elevation: Tensor, amplitude: Tensor | float) -> Tensor:
    """m, in the broadcast shape of the arguments."""
    raised = 1 + (amplitude - 1) * elevation
    return raised if oscillation.direction == "up" else 1 / raised


def shift_of(oscillation: Oscillation, groups: int, period: int, seed: int) -> Tensor:
    """Steps by which a member's oscillation starts into its turn: (), or (G,) if all groups
    oscillate."""
    phases = torch.tensor(oscillation.phase, dtype=torch.float64, device="cpu")
    if _all_oscillate(oscillation):
        phases = torch.from_numpy(generator(seed, Stream.OSCILLATION, 2).random(groups))
    return torch.floor(phases * period).to(torch.int64)


def _mean(oscillation: Oscillation, groups: int, period: int, amplitude: float) -> float:
    """The mean of m over a period for a single, normalised group; else 1."""
    if not (_is_single_group(oscillation, groups) and oscillation.normalised):
        return 1.0
    of_period = torch.arange(period, device="cpu")
    elevation = SHAPES[oscillation.shape](of_period, period)
    return float(_raw(oscillation, elevation, amplitude).mean())


def _all_oscillate(oscillation: Oscillation) -> bool:
    """Whether all groups oscillate at once, instead of taking turns."""
    return not GROUPS[oscillation.groups].takes_turns


def _is_single_group(oscillation: Oscillation, groups: int) -> bool:
    return groups == 1 and not oscillation.is_by_class
