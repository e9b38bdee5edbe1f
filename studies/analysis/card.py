"""An analysis as cards: report, figures, CSV tables and findings are made from them alone.

An analysis is a function of a study's `Tables` (see `analyses.ANALYSES`); where it does not apply
it gives no card. A card is data: nothing is drawn before one of its functions is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, get_args

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SUBJECTS", "Animation", "Card", "Drawing", "Draws"]

P = ParamSpec("P")
Draws = Callable[P, "Figure"]
Subject = Literal["winners", "landscape", "settings"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
"""In the order of the findings."""


@dataclass(frozen=True, eq=False)
class Animation:
    """A figure that moves.

    Args:
        figure: drawn at its first moment.
        show: draws the frame of an index instead of the one before.
        frames: how many there are.
        still: the index of the frame that stands for all.
    """

    figure: Figure
    show: Callable[[int], None]
    frames: int
    still: int


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, and what it is called.

    Args:
        name: the name of its files.
        headline: what it shows.
        caption: what to read off it.
        draw: draws it; None if it moves.
        animate: draws it where it moves.
    """

    name: str
    headline: str
    caption: str
    draw: Callable[[], Figure] | None = None
    animate: Callable[[], Animation] | None = None

    def wrapped(self, wrap: Callable[[Callable[[], Any]], Callable[[], Any]]) -> Drawing:
        """The same, with its function replaced."""
        draw, animate = self.draw, self.animate
        return replace(self, draw=draw and wrap(draw), animate=animate and wrap(animate))


@dataclass(frozen=True, eq=False)
class Card:
    """One result. A card without figures and without a table is not shown as a section.

    Args:
        title: its heading.
        drawings: its figures.
        paragraphs: what it says beside them.
        table: a small table, or None.
        table_caption: what the table shows.
        files: CSV tables, by file name.
        sentences: what was found.
        subject: what they are about.
        warnings: what to beware of.
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
        """The same card for a study in which several pairs of arms have one: its heading, its files
        and its sentences name the pair."""
        suffix, words = f"_{arm}_{reference}", f"{arm} against {reference}"
        return replace(
            self,
            title=f"{self.title}: {words}",
            drawings=[replace(each, name=each.name + suffix) for each in self.drawings],
            files={f"{Path(n).stem}{suffix}{Path(n).suffix}": t for n, t in self.files.items()},
            sentences=[f"{words}: {sentence}" for sentence in self.sentences],
        )
