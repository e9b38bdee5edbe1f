from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studies.installed import PACKAGES
from tests.studies.tiny import tiny_file


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A study file of a few hundred optimiser steps."""
    return tiny_file(tmp_path)


@pytest.fixture
def own_imports() -> Iterator[None]:
    """Packages that a test puts on the path leave with it."""
    paths, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in PACKAGES:
            del sys.modules[name]


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Studies are judged and reported, and nothing is drawn: for modules that look at no figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))
        yield
