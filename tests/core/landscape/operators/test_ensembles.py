"""Products with the curvature of ensembles, in closed form."""

from __future__ import annotations

import pytest
import torch

from dynloss_core.landscape import HessianOperator, NTKOperator
from dynloss_core.landscape.operators.one_hidden_layer import PatternHessian, PatternNTK
from dynloss_core.landscape.operators.stacked_networks import VmappedHessian, VmappedNTK
from dynloss_core.losses import LossName
from tests.core.landscape.cases import LOSSES, normal
from tests.core.landscape.ensembles import Ensemble

each_loss = pytest.mark.parametrize("loss", LOSSES)


@each_loss
def test_products_in_closed_form_are_those_of_autograd(loss: LossName) -> None:
    ensemble = Ensemble(loss=loss)
    x = torch.stack([each.inputs for each in ensemble.data])
    y = torch.stack([each.targets for each in ensemble.data])
    given = ensemble.parameters, loss, x, y, ensemble.class_weights
    network = ensemble.networks[0]
    vectors = normal(3, 69, seed=1)
    expected = torch.stack(
        [
            HessianOperator(each, loss, data, gamma)(v[None])[0]
            for each, data, gamma, v in zip(
                ensemble.networks, ensemble.data, ensemble.class_weights, vectors, strict=True
            )
        ]
    )
    for operator in (
        PatternHessian(*given),
        VmappedHessian(network, *given),
        VmappedHessian(network, *given, max_samples_per_pass=7),
    ):
        assert operator.dimension == 69
        torch.testing.assert_close(operator(vectors), expected, rtol=0, atol=1e-12)


def test_kernel_products_in_closed_form_are_those_of_autograd() -> None:
    ensemble = Ensemble()
    x = torch.stack([each.inputs[:7] for each in ensemble.data])
    vectors = normal(3, 7, seed=1)
    expected = torch.stack(
        [
            NTKOperator(network, inputs)(v[None])[0]
            for network, inputs, v in zip(ensemble.networks, x, vectors, strict=True)
        ]
    )
    for operator in (
        PatternNTK(ensemble.parameters, x),
        VmappedNTK(ensemble.networks[0], ensemble.parameters, x),
        VmappedNTK(ensemble.networks[0], ensemble.parameters, x, max_samples_per_pass=2),
    ):
        torch.testing.assert_close(operator(vectors), expected, rtol=1e-12, atol=1e-12)
