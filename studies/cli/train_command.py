"""The command `train`: one network, by itself or as the winner of a study."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynloss_core.config import ConfigError, build
from studies.cli.app import app
from studies.cli.examples import examples
from studies.cli.options import (
    ArmOption,
    DataDir,
    Direction,
    Download,
    Groups,
    Order,
    Out,
    SearchOption,
    Settings,
    Shape,
)
from studies.messages import DEFAULT_OUT, console

if TYPE_CHECKING:
    from dynloss_core.training import Member, Problem

__all__ = ["train"]

_OSCILLATION = ("groups", "order", "shape", "direction")
_MODEL = ("width", "depth")
_TRAINING = ("loss", "batch_size", "steps", "static_tail")
_POINT = {
    "lr": "learning_rate",
    "momentum": "momentum",
    "period": "period",
    "amplitude": "amplitude",
}
_CHANGES = {*_OSCILLATION, *_MODEL, *_TRAINING, *_POINT}
_OF_A_STUDY = ("arm", "search", "setting", "out")


@app.command(
    epilog=examples(
        "`dynloss train` is the published spiral run, shortened",
        "`dynloss train --amplitude 1` is its static baseline",
        "`dynloss train --groups stratified` oscillates groups that mix all classes equally",
        "`dynloss train --trace steps.parquet` keeps every step",
        "`dynloss train --data digits --width 10 --batch-size 64 --momentum 0.9 --lr 0.1 "
        "--period 40 --steps 1000 --static-tail 200`",
        "`dynloss train --from quickstart` trains the winner of a study again",
        "`dynloss train --from quickstart --arm static --seed 7 --lr 1` with another seed and rate",
    )
)
def train(
    context: typer.Context,
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
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of data, initialisation and batches; by default 0, with --from the first "
            "fresh seed of the winner."
        ),
    ] = None,
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
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STUDY",
            help="Train a winner of this study, its name, file or folder; options that you give "
            "replace its values.",
        ),
    ] = None,
    arm: ArmOption = None,
    search: SearchOption = 1,
    setting: Settings = None,
    out: Out = DEFAULT_OUT,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Train one network with the dynamical loss and watch it."""
    from dynloss_core.training import Member, Problem
    from studies.definition.data_sets import ensure_data
    from studies.runner.single_run import retrain, train_alone

    given = _typed(context)
    if from_ is not None:
        from studies.storage.recorded_study import recorded_study
        from studies.storage.recorded_winner import recorded_winner
        from studies.storage.stored_study import StoredStudy

        stored = StoredStudy.read(recorded_study(from_, out))
        ensure_data(stored.study.data, data_dir, download=download)
        winner = recorded_winner(stored, arm=arm, search=search, seed=seed, settings=setting or [])
        changed = _changed(winner.problem, winner.member, given)
        console.print(f"winner of {winner}")
        replaced = [name for name in given if name in _CHANGES]
        if replaced:
            console.print(f"but for {', '.join(f'{name} {given[name]}' for name in replaced)}")
        retrain(winner, *changed, console, trace)
        return
    for name in _OF_A_STUDY:
        if name in given:
            raise ConfigError(f"--{name}", "names part of a study", "add --from STUDY")
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
        "seed": seed or 0,
        "amplitude": amplitude,
        "period": period,
    }
    built = build(Problem, problem, source="dynloss train")
    one = build(Member, member, source="dynloss train")
    ensure_data(built.data, data_dir, download=download)
    train_alone(built, one, console, trace)


def _typed(context: typer.Context) -> dict[str, Any]:
    """The options that were typed, without those that have their default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        name: value
        for name, value in context.params.items()
        if (source := sources[name]) is not None and source.name == "COMMANDLINE"
    }


def _changed(problem: Problem, member: Member, given: dict[str, Any]) -> tuple[Problem, Member]:
    """A winner's problem and member, with the options that were given in place of its values.

    Raises:
        ConfigError: for a value that is refused, and for what only another study can change.
    """
    if "data" in given:
        raise ConfigError("--data", "the study of --from says the data", "leave it out")
    oscillation = {name: given[name] for name in _OSCILLATION if name in given}
    sizes = {name: given[name] for name in _MODEL if name in given}
    model: Any = problem.model
    for name in sizes:
        if name not in {field.name for field in fields(model)}:
            problem_of_model = f"the study's network, {model.name}, has no {name}"
            raise ConfigError(f"--{name}", problem_of_model, "leave it out")
    changed = replace(
        problem,
        model=replace(model, **sizes),
        oscillation=replace(problem.oscillation, **oscillation),
        **{name: given[name] for name in _TRAINING if name in given},
    )
    return changed, replace(
        member, **{own: given[name] for name, own in _POINT.items() if name in given}
    )
