"""What the caller has set of PyTorch's precision reaches no result, and is not lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.backends import cuda, cudnn, mkldnn

from dynloss_core.compute.deterministic import deterministic
from tests.devices import DEVICES

OPERATIONS = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)

CALLERS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "products high": lambda: torch.set_float32_matmul_precision("high"),
    "products medium": lambda: torch.set_float32_matmul_precision("medium"),
    "products on CUDA": lambda: setattr(cuda.matmul, "allow_tf32", True),
    "products by operation": lambda: setattr(cuda.matmul, "fp32_precision", "tf32"),
    "products on the CPU": lambda: setattr(mkldnn.matmul, "fp32_precision", "bf16"),
    "convolutions off": lambda: setattr(cudnn, "allow_tf32", False),
    "convolutions by operation": lambda: setattr(cudnn.conv, "fp32_precision", "ieee"),
    "all of cuDNN": lambda: setattr(cudnn, "fp32_precision", "tf32"),
    "everything": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "algorithms by a race": lambda: setattr(cudnn, "benchmark", True),
}


def settings() -> list[object]:
    """All there are, in both forms; `at odds` where the older one cannot be read."""
    older = (
        torch.get_float32_matmul_precision,
        lambda: cuda.matmul.allow_tf32,
        lambda: cudnn.allow_tf32,
    )
    found: list[object] = [cudnn.enabled, cudnn.benchmark, cudnn.deterministic]
    found += [each.fp32_precision for each in OPERATIONS]
    for read in older:
        try:
            found.append(read())
        except RuntimeError:
            found.append("at odds")
    return found


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> Iterator[None]:
    """One who sets something; afterwards all is as PyTorch has it at first."""
    CALLERS[request.param]()
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for operation in OPERATIONS:
        operation.fp32_precision = "none"
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = True, False, False


every_caller = pytest.mark.parametrize("caller", CALLERS, indirect=True)


@every_caller
def test_it_is_exact_and_deterministic_inside_and_as_before_outside(caller: None) -> None:
    before = settings()
    expected = [True, False, True, *["ieee"] * len(OPERATIONS), "highest", False, False]
    with deterministic():
        assert settings() == expected
        with deterministic():
            assert settings() == expected
        assert settings() == expected
    assert settings() == before
    with pytest.raises(ZeroDivisionError), deterministic():
        raise ZeroDivisionError
    assert settings() == before


@every_caller
@pytest.mark.parametrize("device", DEVICES)
def test_float32_is_float32(caller: None, device: str) -> None:
    """Relative to float64: rounding to float32 gives 1e-7, to TF32 3e-4, to bfloat16 2e-3."""
    draws = torch.Generator().manual_seed(0)
    shapes = ((8, 64, 16, 16), (64, 64, 3, 3), (256, 256), (256, 256))
    numbers = [torch.randn(*shape, generator=draws, dtype=torch.float64) for shape in shapes]
    images, kernel, one, other = numbers
    singles = [each.float().to(device) for each in numbers]

    def error(found: Tensor, exact: Tensor) -> float:
        return float((found.cpu().double() - exact).norm() / exact.norm())

    with deterministic():
        convolved, product = torch.conv2d(*singles[:2]), singles[2] @ singles[3]
    assert error(convolved, torch.conv2d(images, kernel)) < 2e-6
    assert error(product, one @ other) < 2e-6
