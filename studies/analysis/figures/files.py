"""Figures as files, written in the suite's style whatever the user's settings."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

from dynloss_core.atomic import atomic_file, write_atomically
from studies.analysis.card import Animation
from studies.analysis.figures.style import Page, drawn_for_page, suite_style

__all__ = ["PageFigure", "PageImage", "Spot", "page_image", "save_animation", "save_figure"]

_FONT = re.compile(rb"(['\"]?)DejaVu Sans\1(, ['\"]?[^;:\"]+?)?(?=[;\"])")
_LARGEST = 1_500_000  # bytes of SVG that a page should hold
Spot = tuple[float, float, float, float, str]


class PageImage(NamedTuple):
    """A figure as SVG, for a window of one width.

    Args:
        svg: the image.
        notes: how to read it, which the image does not say.
        spots: what to say of a part of the image: left, top, width and height as fractions of it,
            and the words.
    """

    svg: bytes
    notes: tuple[str, ...]
    spots: tuple[Spot, ...]


class PageFigure(NamedTuple):
    """A figure as SVG, whose text is text in the reader's own typeface.

    Args:
        wide: for a window of a screen.
        narrow: for one of a telephone.
    """

    wide: PageImage
    narrow: PageImage

    @property
    def fits(self) -> bool:
        """Whether a page should hold it."""
        return max(len(self.wide.svg), len(self.narrow.svg)) <= _LARGEST


def page_image(draw: Callable[[], Figure], family: str, *, narrow: bool) -> PageImage:
    """Draw a figure for a page.

    Args:
        draw: draws it.
        family: the page's typeface, as in CSS, without double quotes.
        narrow: whether it is for a telephone.
    """
    with drawn_for_page(narrow=narrow) as page, suite_style():
        figure, file = draw(), io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none"}):
            figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    svg = _FONT.sub(family.encode(), file.getvalue())
    return PageImage(svg, tuple(page.notes), _spots(figure, page))


def _spots(figure: Figure, page: Page) -> tuple[Spot, ...]:
    """The spots of a page in fractions of the figure, from its top left."""
    placed = []
    for axes, (left, right, low, high), text in page.spots:
        to_figure = axes.transData + figure.transFigure.inverted()
        (x0, y0), (x1, y1) = to_figure.transform([(left, high), (right, low)])
        numbers = (min(x0, x1), 1 - max(y0, y1), abs(x1 - x0), abs(y1 - y0))
        placed.append((*(round(float(number), 4) for number in numbers), text))
    return tuple(placed)  # type: ignore[arg-type]


def save_figure(
    figure: Figure, folder: Path, name: str, endings: Sequence[str] = ("png",)
) -> list[Path]:
    """Write a figure in each of the formats: png, svg or pdf."""
    paths = [folder / f"{name}.{ending}" for ending in endings]
    with suite_style():
        for path in paths:
            kind = path.suffix.removeprefix(".")
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
            with atomic_file(path) as file:
                figure.savefig(file, format=kind, metadata=metadata)
    return paths


def save_animation(animation: Animation, folder: Path, name: str) -> list[Path]:
    """Write an animation as a looping GIF, and the frame that represents it as PNG."""
    moving, still = (folder / f"{name}.{ending}" for ending in ("gif", "png"))
    writer, figure = PillowWriter(fps=15), animation.figure
    with suite_style(), tempfile.TemporaryDirectory(prefix="dynloss-frames-") as making:
        made = Path(making) / moving.name  # the writer needs a name
        with writer.saving(figure, str(made), dpi=100):
            for frame in range(animation.frames):
                animation.show(frame)
                writer.grab_frame()
        write_atomically(moving, made.read_bytes())
        animation.show(animation.still)
        with atomic_file(still) as file:
            figure.savefig(file, format="png", dpi=150)
    return [moving, still]
