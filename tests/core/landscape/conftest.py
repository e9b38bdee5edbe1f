from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.landscape.reference import GOLDEN

FILES = sorted(GOLDEN.glob("*.npz"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "trajectory" in metafunc.fixturenames:
        given = metafunc.config.getoption("trajectory")
        files = [Path(path) for path in given] if given else FILES
        metafunc.parametrize("trajectory", files, ids=lambda path: path.stem)
