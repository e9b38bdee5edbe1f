"""Contracts of what can be added: an engine, a loss, a network, a data set, a shape.

A class of tests that names its entry inherits the tests that every entry of its kind must pass:

    from dynloss_core.testing import LossContract

    class TestFocal(LossContract):
        loss = LOSSES["focal"]

Only this package needs pytest (`pip install dynloss[testing]`), and nothing else imports it.
"""

import pytest

pytest.register_assert_rewrite(
    f"{__name__}.agreement",
    *(f"{__name__}.{kind}_contract" for kind in ("data_set", "engine", "loss", "model", "shape")),
)

from dynloss_core.testing.cases import CASES, Case  # noqa: E402
from dynloss_core.testing.data_set_contract import DataSetContract  # noqa: E402
from dynloss_core.testing.engine_contract import EngineContract  # noqa: E402
from dynloss_core.testing.loss_contract import LossContract  # noqa: E402
from dynloss_core.testing.model_contract import ModelContract  # noqa: E402
from dynloss_core.testing.shape_contract import ShapeContract  # noqa: E402

__all__ = [
    "CASES",
    "Case",
    "DataSetContract",
    "EngineContract",
    "LossContract",
    "ModelContract",
    "ShapeContract",
]
