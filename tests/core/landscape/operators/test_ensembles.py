"""Products with the curvature of ensembles, in closed form."""

from __future__ import annotations

import pytest
import torch
from torch.func import hessian

from dynloss_core.landscape import HessianOperator, NTKOperator
from dynloss_core.landscape.operators.one_hidden_layer import PatternHessian, PatternNTK
from dynloss_core.landscape.operators.stacked_networks import VmappedHessian, VmappedNTK
from dynloss_core.losses import LossName, output_curvature, weighted_loss
from tests.core.landscape.cases import LOSSES, normal, weights_of
from tests.core.landscape.ensembles import Ensemble

each_loss = pytest.mark.parametrize("loss", LOSSES)


@each_loss
def test_output_curvature_is_the_hessian_of_the_loss(loss: LossName) -> None:
    """Sample by sample; the blocks between samples are zero."""
    outputs, gamma = 2 * normal(5, 4, seed=1), weights_of(4, seed=1)
    targets = torch.tensor([0, 3, 1, 1, 2])
    one_hot = torch.nn.functional.one_hot(targets).double()
    diagonal, outer = output_curvature(loss, outputs.T[None], one_hot.T[None], gamma[None])
    whole = hessian(lambda z: weighted_loss(loss, z, targets, gamma))(outputs)  # (N, C, N, C)
    for j in range(5):
        d, u = diagonal[0, :, j], outer[0, :, j]
        found = d.diag() - u[:, None] * u
        torch.testing.assert_close(found, whole[j, :, j], rtol=0, atol=1e-14)


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
        VmappedHessian(network, *given, samples_at_once=7),
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
        VmappedNTK(ensemble.networks[0], ensemble.parameters, x, samples_at_once=2),
    ):
        torch.testing.assert_close(operator(vectors), expected, rtol=1e-12, atol=1e-12)
