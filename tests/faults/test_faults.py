"""A study under faults ends as if there had been none: no trial lost, none twice, no number changed.

`make test-faults` strikes ten times with every kind and prints the count; `make test` once with one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.conftest import count_up
from tests.faults.strikes import KINDS, strike_study, undisturbed
from tests.machines import needs_namespaces

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own takes root to mount")
CONDITIONS = {"disk": [needs_root], "raylet": [needs_namespaces]}
SHORT = [pytest.param("driver", 1, 0)]
WHOLE = [
    pytest.param(kind, 5, seed, marks=[pytest.mark.faults, *CONDITIONS.get(kind, ())])
    for kind in KINDS
    for seed in (1, 2)
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study without faults."""
    return undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "strikes", "seed"), [*SHORT, *WHOLE])
def test_faults(kind: str, strikes: int, seed: int, reference: Path, tmp_path: Path) -> None:
    tally = strike_study(kind, strikes, seed, tmp_path / f"{kind}-{seed}", reference)
    count_up(kind, strikes, tally)
    assert (tally.lost, tally.duplicated, tally.changed) == (0, 0, 0)
