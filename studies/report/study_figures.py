"""The figures of a study: as files, and as its report has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studies.analysis.figures.files import (
    PageFigure,
    page_figure,
    save_animation,
    save_figure,
)
from studies.analysis.study_analysis import Analysis
from studies.report.page.html import FONT

__all__ = ["draw_figures", "figures_for_page"]


def draw_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw the figures of all cards, one after another, with animations last."""
    drawings = [drawing for card in analysis.cards for drawing in card.drawings]
    still = [save_figure(d.draw(), folder, d.name) for d in drawings if d.draw]
    moving = [save_animation(d.animate(), folder, d.name) for d in drawings if d.animate]
    return [path for paths in (*still, *moving) for path in paths]


def figures_for_page(analysis: Analysis, drawn: Sequence[Path]) -> dict[str, PageFigure]:
    """The still figures that were drawn, drawn again for the report, by name."""
    names = {path.stem for path in drawn}
    drawings = [drawing for card in analysis.cards for drawing in card.drawings]
    made = {d.name: page_figure(d.draw, FONT) for d in drawings if d.draw and d.name in names}
    return {name: figure for name, figure in made.items() if figure is not None}
