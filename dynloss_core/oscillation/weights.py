r"""The weights of the groups at any step, for one schedule or an ensemble of schedules.

Symbols
    M      members
    G      groups
    n      steps asked for
    T      period in steps: how long ONE group stays active (a full round takes G*T steps)
    A      amplitude, A >= 1; A = 1 is the static loss
    t      step: number of optimiser updates done so far, t = 0, 1, 2, ..., later by the phase
    k      number of the turn, k = t // T
    tau    step inside the turn, tau = t mod T
    s      elevation, 0 <= s <= 1, of the shape at tau
    m      raw weight of an active group, 1 + (A - 1) s, or its inverse if the direction is down
    Gamma  weights of the groups, (n, M, G)

Of groups that take turns one is active, and

.. math:: \Gamma_g = \frac{G\, (m\ \text{if}\ g\ \text{is active else}\ 1)}{m + G - 1};

of groups that all oscillate, :math:`\Gamma_g = G m_g / \sum_h m_h`. The only group there is has
:math:`\Gamma = m / \bar m` with the mean of m over a period.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dynloss_core.oscillation.groups import GROUPS
from dynloss_core.oscillation.orders import active_groups
from dynloss_core.oscillation.oscillation import Oscillation
from dynloss_core.oscillation.shapes import SHAPES
from dynloss_core.seeding import Stream, generator

__all__ = ["GroupWeights"]


class GroupWeights:
    """Integer steps (n,) -> Gamma (n, M, G) in float64, on the device of the steps.

    Args:
        oscillation: what the members have in common.
        groups: G.
        period, amplitude, stop: of each member, (M,): T, A, and the step from which on all weights
            are 1.
        seeds: of each member: what is random about its turns and phases.
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
        self._takes_turns = GROUPS[oscillation.groups].takes_turns
        shift = torch.floor(oscillation.phase * period.double())
        if not self._takes_turns:
            phases = np.stack([
                generator(seed, Stream.OSCILLATION, 2).random(groups) for seed in self._seeds
            ])  # fmt: skip
            shift = torch.floor(torch.from_numpy(phases) * period[:, None].double())  # (M, G)
        self._shift = shift.to(torch.int64)
        self._turns = torch.empty(len(self._seeds), 0, dtype=torch.int64)
        self._mean = torch.ones(len(self._seeds), dtype=torch.float64)  # of m over a period
        self._alone = groups == 1 and not oscillation.is_by_class
        if self._alone and oscillation.normalised:
            self._mean = torch.stack([
                self._raw(torch.arange(int(T)), T, A).mean()
                for T, A in zip(period, self._amplitude, strict=True)
            ])  # fmt: skip

    def __call__(self, steps: Tensor) -> Tensor:
        where = steps.device
        period, amplitude, stop, shift = (
            tensor.to(where) for tensor in (self._period, self._amplitude, self._stop, self._shift)
        )
        t = steps[:, None]
        moves = t < stop  # (n, M)
        if not self._takes_turns:
            t, period, amplitude, moves = (
                t[..., None],
                *(tensor[..., None] for tensor in (period, amplitude, moves)),
            )
        t = t + shift
        raw = torch.where(moves, self._raw(torch.remainder(t, period), period, amplitude), 1.0)
        if not self._takes_turns:  # (n, M, G)
            return raw * (self.groups / raw.sum(-1, keepdim=True)) if self._normalised else raw
        if self._alone:
            return torch.where(moves, raw / self._mean.to(where), 1.0)[..., None]
        active = self._active(torch.div(t, period, rounding_mode="floor"))
        chosen = torch.arange(self.groups, device=where) == active[..., None]
        weights = torch.where(chosen, raw[..., None], 1.0)
        if self._normalised:
            weights = weights * (self.groups / (raw + (self.groups - 1)))[..., None]
        return weights

    @property
    def _normalised(self) -> bool:
        return self._oscillation.normalised

    def _raw(self, tau: Tensor, period: Tensor, amplitude: Tensor) -> Tensor:
        """m, of the shape of its arguments broadcast."""
        raised = 1 + (amplitude - 1) * SHAPES[self._oscillation.shape](tau, period)
        return raised if self._oscillation.direction == "up" else 1 / raised

    def _active(self, turn: Tensor) -> Tensor:
        """The active group of turns (n, M)."""
        if self._oscillation.order == "cyclic":
            return torch.remainder(turn, self.groups)
        last = int(turn.max()) + 1 if turn.numel() else 0
        if last > self._turns.shape[1]:  # as many again, so that a long run draws seldom
            drawn = [
                active_groups(self._oscillation.order, self.groups, 2 * last, seed)
                for seed in self._seeds
            ]
            self._turns = torch.from_numpy(np.stack(drawn))
        return self._turns.to(turn.device).gather(1, turn.T).T
