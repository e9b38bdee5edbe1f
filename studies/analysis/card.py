"""An analysis as cards: report, figures, CSV tables and findings are made from them alone.

An analysis is a function of a study's `Tables` (see `analyses.ANALYSES`) that yields cards, none if
it does not apply. A card is data: nothing is drawn until one of its functions is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, get_args

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SUBJECTS", "Animation", "Card", "Drawing", "DrawFunction"]

P = ParamSpec("P")
DrawFunction = Callable[P, "Figure"]
Subject = Literal["winners", "landscape", "settings"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
"""In the order of the findings."""


@dataclass(frozen=True, eq=False)
class Animation:
    """An animated figure.

    Args:
        figure: the figure, drawn at its first frame.
        show: draws the frame with the given index in place of the current one.
        frames: number of frames.
        still: index of the frame that represents the animation.
    """

    figure: Figure
    show: Callable[[int], None]
    frames: int
    still: int


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with its name and texts.

    Args:
        name: the name of its files.
        headline: what it shows.
        caption: how to read it.
        draw: draws it; None for an animation.
        animate: draws an animation; None for a still figure.
    """

    name: str
    headline: str
    caption: str
    draw: Callable[[], Figure] | None = None
    animate: Callable[[], Animation] | None = None

    def wrapped(self, wrap: Callable[[Callable[[], Any]], Callable[[], Any]]) -> Drawing:
        """The same figure with its drawing function wrapped."""
        draw, animate = self.draw, self.animate
        return replace(self, draw=draw and wrap(draw), animate=animate and wrap(animate))


@dataclass(frozen=True, eq=False)
class Card:
    """One result. A card without figures and without a table is not shown as a section.

    Args:
        title: its heading.
        drawings: its figures.
        paragraphs: the text that goes with them.
        table: a small table, or None.
        table_caption: what the table shows.
        files: CSV tables, by file name.
        sentences: the findings.
        subject: what the findings are about.
        warnings: caveats.
    """

    title: str
    drawings: Sequence[Drawing] = ()
    paragraphs: Sequence[str] = ()
    table: pd.DataFrame | None = None
    table_caption: str = ""
    files: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    subject: Subject = "settings"
    warnings: Sequence[str] = ()

    def of_pair(self, arm: str, reference: str) -> Card:
        """The same card for a study in which several pairs of arms have such a card: heading, files
        and sentences name the pair."""
        suffix, words = f"_{arm}_{reference}", f"{arm} against {reference}"
        return replace(
            self,
            title=f"{self.title}: {words}",
            drawings=[replace(drawing, name=drawing.name + suffix) for drawing in self.drawings],
            files={f"{Path(n).stem}{suffix}{Path(n).suffix}": t for n, t in self.files.items()},
            sentences=[f"{words}: {sentence}" for sentence in self.sentences],
        )
