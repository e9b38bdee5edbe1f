"""What all figures share: style, colours, sizes, words.

Figures are drawn from results alone, without pyplot's global state. Colours are safe for
colour-blind readers (Okabe and Ito 2008, Color Universal Design; others from Tol 2021, Colour
Schemes); diverging colour maps are centred on 0.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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
    "GREY",
    "arm_styles",
    "arms_of_study",
    "beside",
    "blank_figure",
    "headline",
    "note",
    "suite_style",
    "plain_axis",
    "thousands",
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
    """A figure of a size in inches, in the suite's style, without pyplot's global state."""
    with suite_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def headline(figure: Figure, text: str) -> None:
    """Write the finding at the top left of a figure."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, fontweight="bold")


def note(figure: Figure, text: str, colour: str = GREY) -> None:
    """Write small print at the bottom, in lines as wide as the figure: how to read it."""
    characters = int(15.5 * figure.get_figwidth())
    lines = "\n".join(textwrap.fill(line, characters) for line in text.splitlines())
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=8, color=colour)


def beside(axes: Axes, place: float, text: str, colour: str = GREY) -> None:
    """Write small print to the right of the axes, at a place on the vertical axis."""
    at = (1.01, place)
    coordinates = ("axes fraction", "data")
    axes.annotate(text, at, xycoords=coordinates, va="center", fontsize=8, color=colour)


def plain_axis(axis: Axis, subs: Sequence[float] = (1, 2, 5)) -> None:
    """Write the numbers on a logarithmic axis as plain numbers."""
    axis.set_major_locator(mpl.ticker.LogLocator(subs=subs))
    axis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
    axis.set_minor_locator(mpl.ticker.NullLocator())


def thousands(value: float, _: int | None = None) -> str:
    """`20 000`; small numbers as they are."""
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == 0 else f"{value:g}"


def words(metric: str) -> str:
    """The name of a metric, as a label."""
    return metric.replace("_", " ")
