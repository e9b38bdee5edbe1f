"""What is used of torch that it does not call public: a new version that changes it fails here first.

There is no public way to any of it. Operations on lists of tensors are what `torch.optim` itself is
made of, and one call for each tensor takes several times as long; the parents that all of torch's
normalisations and dropouts have in common are not exported; whether a module has hooks cannot be
asked.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from dynloss_core.models import traits_of
from dynloss_core.models.traits import _HOOKS

PACKAGE = Path(__file__).parents[2] / "dynloss_core"
ON_LISTS = {
    "_foreach_add": lambda own, other: own + other,
    "_foreach_add_": lambda own, other: own + other,
    "_foreach_mul": lambda own, other: own * other,
    "_foreach_mul_": lambda own, other: own * other,
    "_foreach_sub_": lambda own, other: own - other,
    "_foreach_copy_": lambda own, other: other,
}
PARENTS = {"_BatchNorm", "_NormBase", "_DropoutNd"}


def private(path: Path) -> set[str]:
    """Names with an underscore that a module takes from torch."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] == "torch":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.startswith("_")}


def test_nothing_else_of_torch_that_is_private_is_used() -> None:
    used = set().union(*(private(path) for path in PACKAGE.rglob("*.py")))
    assert used == {*ON_LISTS, *PARENTS}


@pytest.mark.parametrize("name", ON_LISTS)
def test_an_operation_on_lists_is_that_on_each_tensor(name: str) -> None:
    own, others = ([torch.rand(2, 3), torch.rand(4)] for _ in range(2))
    before, expected = [each.clone() for each in own], map(ON_LISTS[name], own, others)
    wanted = [each.clone() for each in expected]
    found = getattr(torch, name)(own, others)
    in_place = name.endswith("_")
    for one, two in zip(own if in_place else found, wanted, strict=True):
        assert torch.equal(one, two)
    if not in_place:
        assert all(map(torch.equal, own, before))


@pytest.mark.parametrize("name", ["_foreach_mul", "_foreach_mul_"])
def test_a_list_is_multiplied_by_a_tensor_without_axes(name: str) -> None:
    """A recorded step is repeated at other rates: they may not be numbers."""
    own, rate = [torch.rand(2, 3), torch.rand(4)], torch.tensor(0.3)
    wanted = [each * rate for each in own]
    found = getattr(torch, name)(own, rate)
    assert all(map(torch.equal, own if name.endswith("_") else found, wanted))


def test_normalisations_and_dropouts_have_their_parents() -> None:
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(kind, _BatchNorm)
    for kind in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d):
        assert issubclass(kind, _NormBase)
        assert not issubclass(kind, _BatchNorm)
    assert issubclass(_BatchNorm, _NormBase)
    for kind in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout):
        assert issubclass(kind, _DropoutNd)
    for kind in (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm):
        assert not issubclass(kind, _NormBase)


def nothing(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("register", "kept"),
    [
        (nn.Module.register_forward_hook, "_forward_hooks"),
        (nn.Module.register_forward_pre_hook, "_forward_pre_hooks"),
        (nn.Module.register_full_backward_hook, "_backward_hooks"),
        (nn.Module.register_full_backward_pre_hook, "_backward_pre_hooks"),
    ],
)
def test_a_hook_is_seen(register: Callable[..., object], kept: str) -> None:
    layer: nn.Module = nn.ReLU()
    assert kept in _HOOKS
    assert not getattr(layer, kept)
    register(layer, nothing)
    assert getattr(layer, kept)
    assert traits_of(nn.Sequential(layer)).unusual is not None
