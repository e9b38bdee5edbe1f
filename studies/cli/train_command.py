"""The command `train`: one network, without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.cli.app import app
from studies.cli.options import DataDir, Direction, Download, Groups, Order, Shape
from studies.messages import console

__all__ = ["train"]


@app.command(
    epilog=(
        "Examples: `dynloss train` is the published spiral run, shortened · "
        "`dynloss train --amplitude 1` is its static baseline · "
        "`dynloss train --groups stratified` oscillates groups that mix all classes equally · "
        "`dynloss train --trace steps.parquet` keeps every step · "
        "`dynloss train --data digits --width 10 --batch-size 64 --momentum 0.9 --lr 0.1 "
        "--period 40 --steps 1000 --static-tail 200`"
    )
)
def train(
    data: Annotated[str, typer.Option(help="spirals, digits, fashion_mnist, cifar10.")] = "spirals",
    width: Annotated[int, typer.Option(help="Units of a hidden layer.")] = 100,
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 1,
    period: Annotated[int, typer.Option(help="T, in steps.")] = 5000,
    amplitude: Annotated[float, typer.Option(help="A; 1 is the static loss.")] = 70.0,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate.")] = 1.0,
    momentum: Annotated[float, typer.Option(help="Momentum.")] = 0.0,
    batch_size: Annotated[int | None, typer.Option(help="Default: full batch.")] = None,
    steps: Annotated[int, typer.Option(help="Length of the run.")] = 35_000,
    static_tail: Annotated[
        int | None,
        typer.Option(help="Steps without oscillation at the end; by default a seventh."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of data, initialisation and batches.")] = 0,
    loss: Annotated[str, typer.Option(help="cross_entropy, mse_sample_weighted, ...")] = (
        "cross_entropy"
    ),
    groups: Groups = "classes",
    order: Order = "cyclic",
    shape: Shape = "triangle",
    direction: Direction = "up",
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet", help="Write every step: F, loss, accuracy, class weights."
        ),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Train one network with the dynamical loss and watch it."""
    from studies.runner.single_run import train_one

    problem = {
        "data": data,
        "model": {"name": "mlp", "width": width, "depth": depth},
        "loss": loss,
        "oscillation": {
            "groups": groups,
            "order": order,
            "shape": shape,
            "direction": direction,
        },
        "batch_size": batch_size,
        "steps": steps,
        "static_tail": steps // 7 if static_tail is None else static_tail,
        "evaluate_every": max(1, steps // 100),
    }
    member = {
        "learning_rate": lr,
        "momentum": momentum,
        "seed": seed,
        "amplitude": amplitude,
        "period": period,
    }
    train_one(problem, member, console, trace, data_dir=data_dir, download=download)
