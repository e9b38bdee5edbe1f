"""A study under faults ends as if there had been none: no trial lost, none twice, no number changed.

`make test-faults` strikes ten times with every kind and prints the count; `make test-slow`
strikes a shorter study once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.faults.conftest import count_up
from tests.faults.injected_faults import KINDS, strike_study, undisturbed
from tests.faults.study import LONG, SHORT, SLOW, Tally
from tests.machines import needs_namespaces
from tests.s3_server import needs_s3

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own takes root to mount")
CONDITIONS = {
    "disk": [needs_root],
    "raylet": [needs_namespaces],
    "s3_driver": [needs_s3],
    "s3_worker": [needs_s3],
    "s3_raylet": [needs_s3, needs_namespaces],
}
ONCE = [
    pytest.param(SHORT, kind, 1, 0, marks=[pytest.mark.slow, *CONDITIONS.get(kind, ())])
    for kind in ("driver", "s3_driver")
]
OFTEN = [
    pytest.param(
        SLOW if "raylet" in kind else LONG,  # machines take their time to join
        kind,
        5,
        seed,
        marks=[pytest.mark.faults, *CONDITIONS.get(kind, ())],
    )
    for kind in KINDS
    for seed in (1, 2)
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A study without faults, run once."""
    return cache(lambda text: undisturbed(tmp_path_factory.mktemp("undisturbed"), text))


@pytest.mark.parametrize(
    ("text", "kind", "strikes", "seed"),
    [*ONCE, *OFTEN],
    ids=lambda each: {SHORT: "short", LONG: "long", SLOW: "slow"}.get(each),
)
def test_a_struck_study_ends_as_if_nothing_had_happened(
    text: str,
    kind: str,
    strikes: int,
    seed: int,
    reference: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    tally = strike_study(kind, strikes, seed, tmp_path / f"{kind}-{seed}", reference(text))
    count_up(kind, strikes, tally)
    assert tally == Tally(tally.trials, lost=0, duplicated=0, left_open=0, changed=0)
