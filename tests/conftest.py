from __future__ import annotations

import pytest
import torch
from hypothesis import settings

settings.register_profile("dynloss", deadline=None, max_examples=60)
settings.load_profile("dynloss")

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--trajectory",
        action="append",
        default=[],
        metavar="FILE.npz",
        help="check this file in the reference format instead of tests/golden/*.npz",
    )
