"""When two runs, traces or configurations agree: what is compared, and how closely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dynloss_core import keys
from dynloss_core.config import build, config_hash, to_dict
from dynloss_core.training import Evaluation, Trace

__all__ = [
    "METRICS",
    "TRACE_COLUMNS",
    "assert_equal",
    "assert_plain_values",
    "assert_same_trace",
]

METRICS = keys.EVALUATION_METRICS
TRACE_COLUMNS = ("weighted_loss", "loss", "accuracy", "class_weights")


def assert_equal(
    computed: Sequence[Evaluation], expected: Sequence[Evaluation], *, exactly: bool
) -> None:
    """Assert that two runs evaluate at the same steps with the same values: bit for bit, or up to
    rounding in float64."""
    assert [evaluation.step for evaluation in computed] == [
        evaluation.step for evaluation in expected
    ]
    for one, other in zip(computed, expected, strict=True):
        assert torch.equal(one.diverged_step, other.diverged_step)
        for metric in METRICS:
            _assert_close(getattr(one, metric), getattr(other, metric), exactly)


def assert_same_trace(computed: Trace | None, expected: Trace | None, *, exactly: bool) -> None:
    """Assert that two traces have the same steps, members and values, likewise."""
    assert computed is not None
    assert expected is not None
    assert torch.equal(computed.steps, expected.steps)
    assert torch.equal(computed.members, expected.members)
    for name in TRACE_COLUMNS:
        _assert_close(getattr(computed, name), getattr(expected, name), exactly)


def _assert_close(actual: torch.Tensor, expected: torch.Tensor, exactly: bool) -> None:
    rtol, atol = (0.0, 0.0) if exactly else (1e-9, 1e-12)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)


def assert_plain_values(config: Any) -> None:
    """Assert that a configuration survives being written to a study's file, with the same hash."""
    again = build(type(config), to_dict(config))
    assert again == config
    assert hash(again) == hash(config)
    assert config_hash(again) == config_hash(config)
