"""The figures of a study: as files, and as its report has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from studies.analysis.card import Animation
from studies.analysis.figures.files import (
    PageFigure,
    page_image,
    save_animation,
    save_figure,
)
from studies.analysis.study_analysis import Analysis
from studies.report.drawing_processes import draw_together
from studies.report.page.html import FONT

__all__ = ["draw_figures"]


def draw_figures(analysis: Analysis, folder: Path) -> tuple[list[Path], dict[str, PageFigure]]:
    """Draw the figures of all cards: into files, animations last, and the still ones for a page.

    Returns:
        The files, and by name what a page should hold.
    """
    drawings = [drawing for card in analysis.cards for drawing in card.drawings]
    still = {drawing.name: drawing.draw for drawing in drawings if drawing.draw}
    files = [partial(_save_still, draw, folder, name) for name, draw in still.items()]
    files += [partial(_save_moving, d.animate, folder, d.name) for d in drawings if d.animate]
    wide, narrow = (
        [partial(page_image, draw, FONT, narrow=narrow) for draw in still.values()]
        for narrow in (False, True)
    )
    tasks: list[Callable[[], Any]] = [*files, *wide, *narrow]  # of one call, to share them evenly
    drawn = iter(draw_together(tasks))
    paths = [path for _ in files for path in next(drawn)]
    images = list(drawn)
    pages = map(PageFigure, images[: len(still)], images[len(still) :])
    return paths, {name: page for name, page in zip(still, pages, strict=True) if page.fits}


def _save_still(draw: Callable[[], Figure], folder: Path, name: str) -> list[Path]:
    return save_figure(draw(), folder, name)


def _save_moving(animate: Callable[[], Animation], folder: Path, name: str) -> list[Path]:
    return save_animation(animate(), folder, name)
