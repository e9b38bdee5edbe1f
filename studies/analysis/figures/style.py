"""What all figures share: style, colours, sizes, words.

Figures are drawn from results alone, without pyplot's global state. Colours are safe for
colour-blind readers (Okabe and Ito 2008, Color Universal Design; others from Tol 2021, Colour
Schemes); diverging colour maps are centred on 0.

A figure is `FULL` or `PART` inches wide. A page (see `drawn_for_page`) has it twice, the second
time for narrow windows, with its panels one below another; it writes headline and notes itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dynloss_core import keys

__all__ = [
    "ARM_COLOURS",
    "ArmStyle",
    "CLASS_COLOURS",
    "FULL",
    "GREY",
    "PART",
    "Page",
    "arm_styles",
    "arms_of_study",
    "beside",
    "blank_figure",
    "drawn_for_page",
    "headline",
    "hover",
    "in_legend",
    "is_narrow",
    "note",
    "panel_figure",
    "suite_style",
    "plain_axis",
    "thousands",
    "warn",
    "words",
]

T = TypeVar("T")

ARM_COLOURS = {keys.DYNAMICAL: "#D55E00", keys.STATIC: "#0072B2"}
_OTHER_ARMS = (
    *("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#999933", "#332288", "#AA4499"),
)
_OTHER_MARKERS = "^Dvp*XP<>"
_ARMS: ContextVar[tuple[str, ...]] = ContextVar("arms of the study", default=())
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#6B6B6B"
FULL, PART = 9.6, 6.4  # inches
_NARROW = 3.7
_LEGEND_LINE = 30  # characters, of a legend on a narrow page

_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "figure.dpi": 150,
    "svg.hashsalt": "dynloss",
}

_IN_NARROW: Any = {"axes.titlesize": 9, "axes.labelsize": 9}


@dataclass
class Page:
    """What a page writes beside a figure, or over it.

    Args:
        narrow: whether the figure is drawn for a narrow window.
        notes: how to read it.
        spots: what the pointer finds: the axes, left, right, low and high ends in data, and words.
    """

    narrow: bool
    notes: list[str] = field(default_factory=list)
    spots: list[tuple[Axes, tuple[float, float, float, float], str]] = field(default_factory=list)


_PAGE: ContextVar[Page | None] = ContextVar("page", default=None)


@contextmanager
def drawn_for_page(*, narrow: bool) -> Iterator[Page]:
    """Figures made inside leave their headlines, notes and hover texts to a page."""
    page = Page(narrow)
    token = _PAGE.set(page)
    try:
        yield page
    finally:
        _PAGE.reset(token)


def is_narrow() -> bool:
    """Whether there is room for one panel beside nothing else."""
    page = _PAGE.get()
    return page is not None and page.narrow


def in_legend(label: str) -> str:
    """A label as a legend shows it: on a narrow page in lines that leave the panel its room."""
    return textwrap.fill(label, _LEGEND_LINE) if is_narrow() else label


class ArmStyle(NamedTuple):
    """How an arm is drawn."""

    colour: str
    marker: str


def arm_styles(arms: Iterable[str]) -> dict[str, ArmStyle]:
    """How each arm is drawn: the two published arms always the same way, and every arm the same way
    in all figures of its study (see `arms_of_study`)."""
    shown = list(arms)
    others = zip(cycle(_OTHER_ARMS), cycle(_OTHER_MARKERS), strict=False)
    known = {keys.DYNAMICAL: "o", keys.STATIC: "s"}
    styles = {
        arm: ArmStyle(ARM_COLOURS[arm], known[arm]) if arm in known else ArmStyle(*next(others))
        for arm in dict.fromkeys((*_ARMS.get(), *shown))
    }
    return {arm: styles[arm] for arm in shown}


def arms_of_study(arms: Iterable[str], draw: Callable[[], T]) -> Callable[[], T]:
    """Wrap `draw` so that each arm has the style that it has among all arms of its study, even if
    only some of them are shown."""
    every = tuple(arms)

    @wraps(draw)
    def drawing() -> T:
        token = _ARMS.set(every)
        try:
            return draw()
        finally:
            _ARMS.reset(token)

    return drawing


@contextmanager
def suite_style() -> Iterator[None]:
    """The suite's style on top of matplotlib's defaults, whatever the user has set. Some settings
    are read when a figure is made and others when it is written, so do both inside it."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@contextmanager
def blank_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in inches, in the suite's style, without pyplot's global state; no wider
    than a narrow page."""
    with suite_style():
        if is_narrow():
            width = min(width, _NARROW)
            mpl.rcParams.update(_IN_NARROW)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


@contextmanager
def panel_figure(
    count: int,
    height: float,
    *,
    beside: float = 1.0,
    in_a_row: int = 3,
    ratios: Sequence[float] | None = None,
    **sharing: Any,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with panels in rows; on a narrow page, one below another.

    Args:
        count: number of panels.
        height: of a row of panels, in inches.
        beside: inches for what stands above and below the panels.
        in_a_row: the most panels in a row.
        ratios: of the panels' widths, if they stand in one row.
        sharing: the axes that panels share, as in `Figure.subplots`.
    """
    across = 1 if is_narrow() else min(count, in_a_row)
    down = -(-count // across)
    with blank_figure(FULL if count > 1 else PART, beside + down * height) as figure:
        widths = ratios if across == count else None
        grid = figure.subplots(down, across, squeeze=False, width_ratios=widths, **sharing)
        for axes in grid.flat[count:]:
            axes.remove()
        yield figure, list(grid.flat[:count])


def hover(axes: Axes, ends: tuple[float, float, float, float], text: str) -> None:
    """Say something of a rectangle (left, right, low and high end, in data) to who points at it on
    a page."""
    if (page := _PAGE.get()) is not None:
        page.spots.append((axes, ends, text))


def headline(figure: Figure, text: str) -> None:
    """Write the finding at the top left of a figure, unless a page writes it."""
    if _PAGE.get() is None:
        figure.suptitle(text, x=0.01, ha="left", fontsize=13, fontweight="bold")


def warn(figure: Figure, warnings: Sequence[str]) -> None:
    """Write warnings at the bottom of a figure; a page has them beside the verdict."""
    if warnings and _PAGE.get() is None:
        note(figure, "\n".join(f"But {warning}." for warning in warnings), "#8A1C00")


def note(figure: Figure, text: str, colour: str = GREY, *, legend_rows: int = 0) -> None:
    """Write small print at the bottom, in lines as wide as the figure: how to read it. Matplotlib
    would put a legend of the figure that is below the panels over it: rows of one are left free."""
    if (page := _PAGE.get()) is not None:
        page.notes.append(text)
        return
    characters = int(15.5 * figure.get_figwidth())
    lines = "\n".join(textwrap.fill(line, characters) for line in text.splitlines())
    lines += "\n" * (2 * legend_rows)
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=8, color=colour)


def beside(axes: Axes, place: float, text: str, colour: str = GREY) -> None:
    """Write small print to the right of the axes, at a place on the vertical axis; inside, above
    that place, on a narrow page."""
    at, coordinates = (1.01, place), ("axes fraction", "data")
    if is_narrow():
        axes.annotate(
            text, (0.01, place), (0, 7), coordinates, "offset points", fontsize=8, color=colour
        )
        return
    axes.annotate(text, at, xycoords=coordinates, va="center", fontsize=8, color=colour)


def plain_axis(axis: Axis, subs: Sequence[float] = (1, 2, 5)) -> None:
    """Write the numbers on a logarithmic axis as plain numbers."""
    if is_narrow() and len(subs) > 2:
        subs = (1, 3)
    axis.set_major_locator(mpl.ticker.LogLocator(subs=subs))
    axis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
    axis.set_minor_locator(mpl.ticker.NullLocator())


def thousands(value: float, _: int | None = None) -> str:
    """`20 000`; small numbers as they are."""
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == 0 else f"{value:g}"


def words(metric: str) -> str:
    """The name of a metric, as a label."""
    return metric.replace("_", " ")
