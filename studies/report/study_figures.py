"""The figures of a study: as files, and as its report has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from studies.analysis.card import Animation
from studies.analysis.figures.files import (
    PageFigure,
    page_figure,
    save_animation,
    save_figure,
)
from studies.analysis.study_analysis import Analysis
from studies.report.drawing_processes import draw_together
from studies.report.page.html import FONT

__all__ = ["draw_figures", "figures_for_page"]


def draw_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw the figures of all cards into files, with animations last."""
    drawings = [drawing for card in analysis.cards for drawing in card.drawings]
    still = [partial(_save_still, d.draw, folder, d.name) for d in drawings if d.draw]
    moving = [partial(_save_moving, d.animate, folder, d.name) for d in drawings if d.animate]
    return [path for paths in draw_together([*still, *moving]) for path in paths]


def figures_for_page(analysis: Analysis, drawn: Sequence[Path]) -> dict[str, PageFigure]:
    """The still figures that were drawn, drawn again for the report, by name."""
    names = {path.stem for path in drawn}
    drawings = [drawing for card in analysis.cards for drawing in card.drawings]
    still = {d.name: partial(page_figure, d.draw, FONT) for d in drawings if d.draw}
    shown = {name: draw for name, draw in still.items() if name in names}
    made = zip(shown, draw_together(list(shown.values())), strict=True)
    return {name: figure for name, figure in made if figure is not None}


def _save_still(draw: Callable[[], Figure], folder: Path, name: str) -> list[Path]:
    return save_figure(draw(), folder, name)


def _save_moving(animate: Callable[[], Animation], folder: Path, name: str) -> list[Path]:
    return save_animation(animate(), folder, name)
