"""The picture of an oscillation, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynloss_core.oscillation import GROUPS, Oscillation
from studies.analysis.figures.oscillation import draw_oscillation
from tests.studies.analysis.figures import texts
from tests.studies.commands import dynloss_here


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_it_is_drawn(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"oscillation.{kind}"
    done = dynloss_here("oscillation", "--groups", "samples", "--out", file)
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout
    assert file.stat().st_size > 5_000


def test_the_shape_of_a_plug_in_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text("SHAPES = {'flat': lambda tau, period: 0.5 + 0.0 * tau}\n")
    file = tmp_path / "flat.svg"
    words = ("oscillation", "--shape", "flat", "--out", file)
    done = dynloss_here(*words, "--plugin", tmp_path / "shapes.py")
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 5_000
    refused = dynloss_here(*words, "--plugin", tmp_path / "none.py")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


def test_the_picture_shows_the_weights_and_says_what_they_are() -> None:
    for name in GROUPS:
        asked = 3 if name == "own" else None
        oscillation = Oscillation(groups=name, number=asked, shape="sine")
        number = oscillation.count(3, 20)
        figure = draw_oscillation(oscillation, groups=number, period=10, amplitude=4.0, steps=30)
        (axes,) = figure.axes
        assert len(axes.lines) == number + 1
        said = texts(figure)
        assert "What oscillates: " in said
        assert "T = 10 steps, amplitude A = 4" in said
        assert ("order: cyclic" in said) == (name in ("classes", "random", "stratified", "own"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--groups", "clusters"],
            "groups: 'clusters' is not one of the choices; choose one of: classes",
        ),
        (["--out", "no/such/folder/a.png"], "--out: no/such/folder/a.png cannot be written"),
        (["--out", "weights.doc"], "--out: weights.doc cannot be written"),
    ],
)
def test_refusals(words: list[str], said: str) -> None:
    done = dynloss_here("oscillation", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_network_is_trained_with_it() -> None:
    done = dynloss_here(
        "train", "--groups", "random", "--order", "permuted", "--steps", "50", "--period", "10",
        "--width", "5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
