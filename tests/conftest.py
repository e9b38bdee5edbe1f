from __future__ import annotations

import os
import signal
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from dynloss_core.data import DATA_SETS
from dynloss_core.losses import LOSSES
from dynloss_core.models import MODELS
from dynloss_core.oscillation import SHAPES
from dynloss_core.plugins import ANALYSES

settings.register_profile("dynloss", deadline=None, max_examples=30)
settings.load_profile("dynloss")

torch.set_num_threads(1)

# Ray's workers give way to all other work: beside tests, they would hardly ever run
os.environ.setdefault("RAY_worker_niceness", "0")

# printed commands begin with `dynloss`, as in an environment that was activated
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])

# a shell lets what it starts in the background ignore Ctrl-C, and so would all that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _tables_as_before() -> Iterator[None]:
    """What a test reads from a plug-in leaves the suite's tables with it."""
    tables: list[dict[str, Any]] = [MODELS, DATA_SETS, LOSSES, SHAPES, ANALYSES]  # type: ignore[list-item]
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        if table != rows:
            table.clear()
            table.update(rows)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--trajectory",
        action="append",
        default=[],
        metavar="FILE.npz",
        help="check this file in the reference format instead of tests/golden/*.npz",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of a `trajectory` runs on every file of reference, or on those that are given."""
    if "trajectory" in metafunc.fixturenames:
        stored = sorted((Path(__file__).parent / "golden").glob("*.npz"))
        files = [Path(path) for path in metafunc.config.getoption("trajectory")] or stored
        metafunc.parametrize("trajectory", files, ids=lambda path: path.stem)
