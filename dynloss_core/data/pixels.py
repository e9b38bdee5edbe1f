"""Images as bytes: decoded, resized to one size, and the scale of their pixels.

Symbols
    N      images
    K      channels: 1 (grey) or 3 (red, green, blue)
    H, W   pixels
    S      pixels of a side
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dynloss_core.config import ConfigError, reason_of
from dynloss_core.data.splits import PixelScale

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGE_SUFFIXES", "bytes_of", "decoded", "scale_of"]

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
)
"""Suffixes of image files."""

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")  # no other decoder is run
_LEVELS = 256  # values of a byte
_MODES = {1: "L", 3: "RGB"}  # Pillow's names, by K


def scale_of(pixels: Tensor) -> PixelScale:
    """Mean and standard deviation of each channel of bytes (N, K, H, W), from the count of each
    level; a constant channel is scaled to 0.

    No copy in another dtype is made; the sums are integers, exact in float64.
    """
    level = torch.arange(_LEVELS, dtype=torch.float64)
    means, deviations = [], []
    for channel in pixels.unbind(1):
        count = torch.bincount(channel.flatten(), minlength=_LEVELS).double()
        mean = (count @ level / count.sum()).item()
        variance = (count @ (level - mean).square() / count.sum()).item()
        means.append(mean / (_LEVELS - 1))
        deviations.append(variance**0.5 / (_LEVELS - 1) or 1.0)
    return PixelScale(tuple(means), tuple(deviations))


def decoded(path: Path, content: bytes, size: int, channels: int) -> Tensor:
    """The bytes (K, S, S) of an image file.

    The image is turned upright according to its EXIF data; of an animation only the first frame is
    used. It is scaled (bilinear, with antialiasing) until its shorter side is S, and cropped to its
    centre.

    Args:
        path: the file, for messages.
        content: the file's content.
        size: S.
        channels: K.

    Raises:
        ConfigError: if it is not an image that can be read, naming it.
    """
    pillow = _pillow()
    try:
        with pillow.Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            upright = pillow.ImageOps.exif_transpose(image)
            plain = _opaque(upright, _MODES[channels])
            square = pillow.ImageOps.fit(plain, (size, size), pillow.Image.Resampling.BILINEAR)
    except Exception as error:  # decoders may raise anything
        reason = "unknown format" if "cannot identify" in str(error) else reason_of(error)
        problem = f"{path} is not an image that can be read: {reason}"
        raise ConfigError("path", problem, "replace it, or remove it from the folder") from None
    return _tensor(square)


def bytes_of(image: Image) -> Tensor:
    """The bytes (K, H, W) of a Pillow image: K = 1 if it is grey, else 3.

    Raises:
        ValueError: for pixels of 32 bits.
    """
    is_grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
    return _tensor(_opaque(image, "L" if is_grey else "RGB"))


def _opaque(image: Image, mode: str) -> Image:
    """Convert to an image with one byte per channel: transparent parts are shown on black, and
    16-bit grey keeps its upper eight bits."""
    pillow = _pillow()
    if image.mode.startswith("I;16"):  # which Pillow would clip at 255
        image = pillow.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits")
    if image.has_transparency_data:
        black = pillow.Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = pillow.Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert(mode)


def _tensor(image: Image) -> Tensor:
    """(H, W) or (H, W, K) as (K, H, W)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def _pillow() -> Any:
    """Pillow, with the submodules needed here."""
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        problem = f"images need Pillow, which cannot be imported: {reason_of(error)}"
        raise ConfigError("name", problem, "pip install pillow") from None
    PIL.Image.init()  # register all formats, not only the most common
    return PIL
