"""Where the real images of tests lie, and how large the others are (see `conftest.cifar`)."""

from __future__ import annotations

import pytest

from dynloss_core.data import image_folders

__all__ = ["DEBIAN", "IN_A_BATCH", "BATCHES", "TRAINING", "needs_fashion_mnist"]

DEBIAN = image_folders.SYSTEM_FOLDER / "fashion-mnist"
IN_A_BATCH, BATCHES = 120, 5
TRAINING = IN_A_BATCH * BATCHES

needs_fashion_mnist = pytest.mark.skipif(
    not (DEBIAN / "train-images-idx3-ubyte.gz").is_file(),
    reason=f"no Fashion-MNIST in {DEBIAN}: apt install dataset-fashion-mnist",
)
