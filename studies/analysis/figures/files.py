"""Figures as files, written in the suite's style whatever the user's settings."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

from dynloss_core.atomic import atomic_file, write_atomically
from studies.analysis.card import Animation
from studies.analysis.figures.style import suite_style

__all__ = ["save_animation", "save_figure"]


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
