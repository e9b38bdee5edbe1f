"""The command `oscillation`: what a dynamical loss does to the weights, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.cli.app import app
from studies.cli.examples import examples
from studies.cli.options import Direction, Groups, Order, Plugins, Shape
from studies.messages import console

__all__ = ["oscillation"]


@app.command(
    epilog=examples(
        "`dynloss oscillation` is the published one",
        "`dynloss oscillation --groups stratified --shape sine`",
        "`dynloss oscillation --groups samples --period 500 --steps 1500 --out samples.svg`",
        "`dynloss oscillation --plugin shapes.py --shape peak`",
    )
)
def oscillation(
    groups: Groups = "classes",
    order: Order = "cyclic",
    shape: Shape = "triangle",
    direction: Direction = "up",
    classes: Annotated[int, typer.Option(min=1, help="C; also the number of groups.")] = 3,
    samples: Annotated[int, typer.Option(min=1, help="N, for `--groups samples`.")] = 100,
    period: Annotated[int, typer.Option(min=2, help="T, in steps.")] = 100,
    amplitude: Annotated[float, typer.Option(min=1, help="A.")] = 10.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Default: two rounds.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random choices.")] = 0,
    plugin: Plugins = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Picture to write: .png, .svg or .pdf.")
    ] = Path("oscillation.png"),
) -> None:
    """Draw the weights of a dynamical loss, step by step."""
    from dynloss_core.config import ConfigError, build, reason_of
    from dynloss_core.oscillation import Oscillation
    from dynloss_core.plugins import read_plugin
    from studies.analysis.figures.oscillation import draw_oscillation
    from studies.analysis.figures.style import suite_style

    for file in plugin or []:
        read_plugin(file)
    choices: dict[str, object] = {
        "groups": groups,
        "order": order,
        "shape": shape,
        "direction": direction,
    }
    if groups == "own":  # which a data set gives, but how many they are is all that is drawn
        choices["number"] = classes
    made = build(Oscillation, choices)
    number = made.count(classes, samples)
    turns = number if groups != "samples" else 1
    figure = draw_oscillation(
        made,
        groups=number,
        period=period,
        amplitude=amplitude,
        steps=2 * turns * period if steps is None else steps,
        seed=seed,
    )
    try:
        with suite_style():
            figure.savefig(out)
    except (OSError, ValueError) as error:
        problem = f"{out} cannot be written: {reason_of(error)}"
        raise ConfigError("--out", problem, "name a .png, .svg or .pdf file") from None
    console.print(f"figure     {out}")
