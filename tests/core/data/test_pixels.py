"""Image files of every kind become bytes of one size."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dynloss_core.config import ConfigError
from dynloss_core.data.pixels import bytes_of, decoded, scale_of

HERE = Path("a.png")


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_an_image_of_the_size_is_kept_bit_for_bit(kind: str) -> None:
    pixels = noise(8, 8, 3)
    found = decoded(HERE, saved(Image.fromarray(pixels), kind), 8, 3)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.permute(1, 2, 0).numpy(), pixels)
    grey = decoded(HERE, saved(Image.fromarray(pixels[..., 0]), kind), 8, 1)
    assert np.array_equal(grey[0].numpy(), pixels[..., 0])


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_kinds_that_lose_something_keep_a_plain_colour(kind: str) -> None:
    found = decoded(HERE, saved(Image.new("RGB", (20, 14), (200, 40, 90)), kind), 8, 3)
    expected = torch.tensor([200.0, 40, 90]).view(3, 1, 1).expand(3, 8, 8)
    torch.testing.assert_close(found.float(), expected, atol=6, rtol=0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.sampled_from([1, 3]))
def test_any_size_becomes_the_one_asked_for(w: int, h: int, size: int, channels: int) -> None:
    found = decoded(HERE, saved(Image.new("RGB", (w, h), (9, 9, 9))), size, channels)
    assert found.shape == (channels, size, size)
    assert bool((found == 9).all())


def test_the_middle_is_kept_at_the_scale_of_the_shorter_side() -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = noise(8, 8, 3)
    found = decoded(HERE, saved(Image.fromarray(wide)), 8, 3)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), wide[:, 8:16])
    fine = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)  # a chessboard
    halved = decoded(HERE, saved(Image.fromarray(fine)), 4, 1)
    assert int((halved.int() - 127).abs().max()) <= 2, "antialiased"


def test_colour_and_grey() -> None:
    grey = Image.fromarray(noise(8, 8))
    found = decoded(HERE, saved(grey), 8, 3)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], torch.from_numpy(np.array(grey)))
    red = decoded(HERE, saved(Image.new("RGB", (4, 4), (255, 0, 0))), 4, 1)
    assert set(red.flatten().tolist()) == {76}  # ITU-R 601: 0.299 of red


def test_a_palette_gives_its_colours() -> None:
    palette = Image.new("RGB", (4, 4), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert palette.mode == "P"
    assert decoded(HERE, saved(palette), 4, 3)[:, 0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.filterwarnings("error")
def test_what_is_transparent_is_black(mode: str) -> None:
    pixels = np.full((4, 4, 4), 200, dtype=np.uint8)
    pixels[:, :2, 3], pixels[:, 2:, 3] = 0, 255
    image = Image.fromarray(pixels)
    if mode == "P":
        paletted = Image.new("P", (4, 4), 1)
        paletted.paste(0, (0, 0, 2, 4))
        paletted.putpalette([200, 200, 200] * 2)
        content = saved(paletted, transparency=b"\x00\xff")
    else:
        content = saved(image.convert(mode))
    found = decoded(HERE, content, 4, 3)
    assert set(found[:, :, :2].flatten().tolist()) == {0}
    assert set(found[:, :, 2:].flatten().tolist()) == {200}


def test_grey_of_16_bits_keeps_its_upper_eight() -> None:
    deep = (np.arange(16, dtype=np.uint16) * 4096 + 17).reshape(4, 4)
    found = decoded(HERE, saved(Image.fromarray(deep)), 4, 1)
    assert np.array_equal(found[0].numpy(), deep >> 8)


def test_a_photo_is_turned_upright() -> None:
    pixels = noise(4, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    found = decoded(HERE, saved(Image.fromarray(pixels), exif=exif), 4, 3)
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.rot90(pixels, -1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unknown format"),
        (b"no image at all", "unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unknown format"),
        (saved(Image.fromarray(noise(40, 40, 3)))[:-2000], ""),
        (saved(Image.new("F", (4, 4)), "TIFF"), "its pixels have 32 bits"),
    ],
)
def test_what_is_not_an_image_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"a\.png is not an image that can be read: {reason}"):
        decoded(HERE, content, 4, 3)


def test_without_pillow_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("L", (4, 4)))
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ConfigError, match=r"images need Pillow.*; pip install pillow"):
        decoded(HERE, content, 4, 3)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("CMYK", 3)],
)
def test_an_image_in_memory_keeps_its_channels(mode: str, channels: int) -> None:
    assert bytes_of(Image.new(mode, (5, 3))).shape == (channels, 3, 5)


@given(st.integers(0, 2**32 - 1))
def test_the_scale_is_the_mean_and_the_deviation(seed: int) -> None:
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (5, 3, 4, 2), np.uint8))
    scaled = scale_of(pixels)(pixels, torch.float64).transpose(0, 1).flatten(1)
    torch.testing.assert_close(scaled.mean(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(scaled.std(1, correction=0), torch.ones(3, dtype=torch.float64))


def test_a_constant_channel_becomes_zero() -> None:
    pixels = torch.full((3, 1, 2, 2), 7, dtype=torch.uint8)
    torch.testing.assert_close(
        scale_of(pixels)(pixels, torch.float64), torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    )
