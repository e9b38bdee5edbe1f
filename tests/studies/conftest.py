from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.tiny import tiny_file


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A study file of a few hundred optimiser steps."""
    return tiny_file(tmp_path)
