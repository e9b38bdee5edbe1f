"""The command `dynloss`.

Commands are thin: they read arguments, call the suite, and print. What is slow to import is
imported inside them, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dynloss_core.config import ConfigError

if TYPE_CHECKING:
    from studies.definition import Study
    from studies.folder import StudyFolder
    from studies.results import Results

__all__ = ["app", "main"]

USAGE_ERROR = 2
INTERRUPTED = 130
DEFAULT_OUT = Path("results")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Hyperparameter-search studies of dynamical loss functions.",
    epilog=(
        "Start with `dynloss run quickstart`, then `dynloss ui`. "
        "`dynloss COMMAND --help` shows examples."
    ),
)
space_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at search spaces, check them, draw points from them.",
)
app.add_typer(space_app, name="space")
console = Console(highlight=False, soft_wrap=True)

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study of the library by name, or a .yaml file.")
]
RecordedStudy = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study that was run: its name, file or folder.")
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Output folder; a study has a folder in it.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace an entry of the file; repeatable."),
]
SpaceArgument = Annotated[
    str, typer.Argument(metavar="SPACE", help="A space of the library by name, or a .yaml file.")
]


@app.command(
    epilog=(
        "Examples: `dynloss run quickstart` · `dynloss run my.yaml --dry-run` · "
        "`dynloss run quickstart --set budget.total=2000 --set budget.static_tail=500 --out tmp` · "
        "`dynloss run my.yaml --address auto`"
    )
)
def run(
    study: StudyArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it would cost; start nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study already begun in its folder.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="A", help="Ray cluster to join: auto, or HOST:PORT."),
    ] = None,
    out: Out = DEFAULT_OUT,
    set_: Overrides = None,
) -> None:
    """Run a study to its verdict: search, confirmation, tables, figures."""
    from studies.study_files import load_study

    definition = load_study(study, set_ or [])
    if dry_run:
        _print_estimate(definition, address)
        return
    from studies.run import run_study

    try:
        outcome = run_study(definition, out, address=address, resume=resume)
    except ConfigError:
        raise
    except Exception as error:
        _print_crash(error, out / definition.name)
        _print_resume(study, out, address, set_ or [])
        raise typer.Exit(1) from None
    for block, reason in outcome.failures.items():
        console.print(f"block {block} failed: {reason}", style="red")
    if not outcome.finished:
        typer.echo("stopped; everything so far is kept", err=True)
        _print_resume(study, out, address, set_ or [])
        raise typer.Exit(INTERRUPTED)
    _print_results(definition, outcome.folder, outcome.results)
    missing = outcome.results.without_winner(definition)
    if missing:
        arms = " and no ".join(missing)
        typer.echo(f"no verdict: there is no {arms} trial that trained without diverging", err=True)
        raise typer.Exit(1)


@app.command(epilog="Example: `dynloss status quickstart`")
def status(study: RecordedStudy, out: Out = DEFAULT_OUT) -> None:
    """Say how far a study is and what it has found so far."""
    from studies.status import study_status

    folder = _recorded(study, out)
    console.print(study_status(folder))


@app.command(epilog="Example: `dynloss analyse quickstart`")
def analyse(study: RecordedStudy, out: Out = DEFAULT_OUT) -> None:
    """Judge a study again from its tables, and draw its figures anew."""
    from studies.results import write_results

    folder = _recorded(study, out)
    definition = folder.study()
    _print_results(definition, folder, write_results(definition, folder))


@app.command(epilog="Examples: `dynloss ui` · `dynloss ui quickstart --port 5001`")
def ui(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="A study that was run; by default the folder's."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on this machine's loopback.")
    ] = 5000,
    out: Out = DEFAULT_OUT,
) -> None:
    """Open MLflow's user interface on the store of a study, on loopback only."""
    from studies.ui import serve

    folder = None if study is None else _recorded(study, out)
    raise typer.Exit(serve(folder, out, port))


@app.command(
    epilog=(
        "Examples: `dynloss train` is the published spiral run, shortened · "
        "`dynloss train --amplitude 1` is its static baseline · "
        "`dynloss train --trace steps.parquet` keeps every step · "
        "`dynloss train --data digits --width 10 --batch-size 64 --momentum 0.9 --lr 0.1 "
        "--period 40 --steps 1000 --static-tail 200`"
    )
)
def train(
    data: Annotated[str, typer.Option(help="spirals or digits.")] = "spirals",
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
        typer.Option(help="Steps without oscillation at its end; by default a seventh."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of data, initialisation and batches.")] = 0,
    loss: Annotated[str, typer.Option(help="cross_entropy, mse_sample_weighted, ...")] = (
        "cross_entropy"
    ),
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet", help="Write every step: F, loss, accuracy, class weights."
        ),
    ] = None,
) -> None:
    """Train one network with the dynamical loss and watch it."""
    from studies.single_run import train_one

    problem = {
        "data": data,
        "model": {"name": "mlp", "width": width, "depth": depth},
        "loss": loss,
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
    train_one(problem, member, console, trace)


@space_app.command("list")
def space_list() -> None:
    """List the spaces that ship with the suite."""
    import search_spaces

    for name in search_spaces.names():
        space = search_spaces.load(name)
        console.print(
            f"[bold]{name}[/bold]  {', '.join(space.searched())}\n    {space.description}"
        )


@space_app.command("validate", epilog="Example: `dynloss space validate my_space.yaml`")
def space_validate(spaces: Annotated[list[str], typer.Argument(metavar="SPACE...")]) -> None:
    """Check spaces; the first bad one is explained in a line, with exit code 2."""
    import search_spaces

    for name in spaces:
        space = search_spaces.load(name)
        console.print(f"{name}: valid, {len(space.searched())} parameters, hash {space.hash}")


@space_app.command("show", epilog="Example: `dynloss space show spirals-mlp`")
def space_show(space: SpaceArgument) -> None:
    """Show a space with its inheritance resolved."""
    import search_spaces

    loaded = search_spaces.load(space)
    table = Table("parameter", "type", "range", "scale", "unit", "role", "static arm", box=None)
    static = loaded.static().parameters
    for name, each in loaded.parameters.items():
        if each.type in ("float", "int"):
            limits = f"{each.low:g} to {each.high:g}"
        else:
            limits = ", ".join(str(value) for value in each.grid(1))
        scale = getattr(each, "scale", "")
        fixed = static.get(name)
        if fixed is None:
            of_static = "dropped"
        else:
            of_static = "same" if fixed == each else f"= {_brief(fixed.grid(1)[0])}"
        table.add_row(name, each.type, limits, scale, each.unit or "", each.role, of_static)
    console.print(f"[bold]{loaded.name}[/bold]  hash {loaded.hash}\n{loaded.description}\n")
    console.print(table)
    for point in loaded.points:
        console.print(f"starts from: {_in_a_line(point)}")


@space_app.command("sample", epilog="Example: `dynloss space sample spirals-mlp -n 8 --sobol`")
def space_sample(
    space: SpaceArgument,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Points.")] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    sobol: Annotated[bool, typer.Option("--sobol", help="Spread evenly.")] = False,
) -> None:
    """Draw points from a space, as JSON lines."""
    import json

    import search_spaces

    method = "sobol" if sobol else "random"
    for point in search_spaces.load(space).sample(count, seed, method=method):  # type: ignore[arg-type]
        typer.echo(json.dumps(point))


def main() -> None:
    """Entry point: a refusal is one line and exit code 2, never a traceback."""
    try:
        app()
    except ConfigError as error:
        typer.echo(f"dynloss: {error}", err=True)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        typer.echo("dynloss: interrupted", err=True)
        sys.exit(INTERRUPTED)


def _recorded(study: str, out: Path) -> StudyFolder:
    """The folder of a study that was run, from its name, its file or the folder itself."""
    from search_spaces.documents import read_document
    from studies.folder import StudyFolder
    from studies.study_files import find_study

    for path in (Path(study), out / study):
        if (path / "study.yaml").is_file():
            return StudyFolder(path)
    name = str(read_document(find_study(study)).get("name", study))
    folder = StudyFolder(out / name)
    if not folder.exists():
        remedy = f"run it first (dynloss run {study}), or say where with --out"
        raise ConfigError("", "holds no study", remedy, str(folder.path))
    return folder


def _print_estimate(study: Study, address: str | None) -> None:
    from studies.cluster import check_resources, joined_cluster, local_resources
    from studies.dry_run import estimate
    from studies.progress import duration

    if address is None:
        capacity = local_resources()
    else:
        with joined_cluster(address) as capacity:
            pass
    check_resources(study, capacity)
    cost = estimate(study, capacity)
    trials = " + ".join(f"{count} {arm}" for arm, count in cost.trials.items())
    resources = f"{study.resources.cpu:g} CPU, {study.resources.gpu:g} GPU"
    there = f"{capacity.get('CPU', 0):g} CPU, {capacity.get('GPU', 0):g} GPU"
    for label, value in {
        "study": f"{study.name} ({study.mode}), hash {study.hash}",
        "trials": trials,
        "members": f"{cost.members} networks in {cost.blocks} blocks",
        "steps": f"{cost.steps:,} each, {cost.members * cost.steps:,} in all",
        "engine": f"{cost.engine}, {cost.microseconds:.1f} µs a member-step (measured here)",
        "resources": f"a block asks for {resources}; the cluster has {there}: "
        f"{cost.parallel} at once",
        "time": f"about {duration(cost.seconds)}",
    }.items():
        console.print(f"{label:<10} {value}")


def _print_results(study: Study, folder: StudyFolder, results: Results) -> None:
    for arm, (tried, diverged) in results.trials.items():
        lost = f", {diverged} of them diverged" if diverged else ""
        console.print(f"searched   {arm:<10} {tried} trials{lost}")
    for arm, point in results.winners.items():
        console.print(f"winner     {arm:<10} {_in_a_line(point)}")
    if results.verdict is not None and results.validation is not None:
        console.print(f"\n[bold]{results.verdict.sentence()}[/bold]")
        console.print(f"Wilcoxon signed-rank p = {results.verdict.p_wilcoxon:.2g}.", end=" ")
        validation = results.validation
        console.print(
            f"Validation accuracy on the same seeds: {validation.dynamical.mean:.3f} against "
            f"{validation.static.mean:.3f}."
            if study.objective.endswith("accuracy")
            else f"Validation loss: {validation.dynamical.mean:.4g} against "
            f"{validation.static.mean:.4g}."
        )
    console.print(f"\nfigures    {folder.figures}")
    console.print(f"tables     {folder.tables}")
    console.print(f"browse     dynloss ui {_option(folder.path.parent)}".rstrip())


def _in_a_line(point: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_brief(value)}" for name, value in point.items())


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_resume(study: str, out: Path, address: str | None, overrides: list[str]) -> None:
    import shlex

    command = ["dynloss", "run", study, "--resume"]
    command += [] if out == DEFAULT_OUT else ["--out", str(out)]
    command += [] if address is None else ["--address", address]
    for override in overrides:
        command += ["--set", override]
    typer.echo(f"go on with:  {shlex.join(command)}", err=True)


def _print_crash(error: Exception, folder: Path) -> None:
    """One line for the user, the traceback in a file for whoever mends it."""
    import traceback

    log = folder / "error.log"
    with suppress(OSError):
        log.write_text("".join(traceback.format_exception(error)))
    line = (str(error).strip() or repr(error)).splitlines()[-1][:300]
    typer.echo(f"dynloss: {type(error).__name__}: {line} (see {log})", err=True)


def _option(out: Path) -> str:
    return "" if out == DEFAULT_OUT.absolute() else f"--out {out}"
