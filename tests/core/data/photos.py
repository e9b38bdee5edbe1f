"""Folders of small images to learn from: each class is bright in one channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["CLASSES", "write_photos"]

CLASSES = ("ant", "bee")


def write_photos(
    folder: Path, each: int = 15, classes: Sequence[str] = CLASSES, seed: int = 0
) -> Path:
    """Write `each` .png files of other sizes for every class, and give the folder."""
    draws = np.random.default_rng(seed)
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            width, height = draws.integers(6, 12, 2)
            pixels = draws.integers(0, 120, (height, width, 3), dtype=np.uint8)
            pixels[..., index % 3] += 120
            Image.fromarray(pixels).save(folder / name / f"{k:02}.png")
    return folder
