"""The commands `dynloss space ...`, of which only `narrow` needs more than `search_spaces`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dynloss_core.config import ConfigError
from studies.cli.examples import examples
from studies.cli.options import Out
from studies.messages import DEFAULT_OUT, brief, console, paragraph, point_in_words

if TYPE_CHECKING:
    from search_spaces import Parameter

__all__ = ["space_app"]

space_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, show, check, compare and narrow search spaces, and draw points from them.",
)

SpaceArgument = Annotated[
    str, typer.Argument(metavar="SPACE", help="A space from the library, by name, or a .yaml file.")
]


@space_app.command("list")
def space_list() -> None:
    """List the spaces that ship with the suite."""
    import search_spaces

    for name in search_spaces.names():
        space = search_spaces.load(name)
        console.print(name, style="bold", end="")
        console.print(f"  {', '.join(space.searched())}", soft_wrap=False)
        for line in space.description.splitlines():
            paragraph(line, indent=4)


@space_app.command("validate", epilog=examples("`dynloss space validate my_space.yaml`"))
def space_validate(spaces: Annotated[list[str], typer.Argument(metavar="SPACE...")]) -> None:
    """Check spaces; stop at the first bad one with a line that says why, and exit code 2."""
    import search_spaces

    for name in spaces:
        space = search_spaces.load(name)
        console.print(f"{name}: valid, {len(space.searched())} parameters, hash {space.hash}")


@space_app.command("show", epilog=examples("`dynloss space show spirals-mlp`"))
def space_show(space: SpaceArgument) -> None:
    """Show a space with its inheritance resolved."""
    import search_spaces

    loaded = search_spaces.load(space)
    table = Table("parameter", "type", "range", "scale", "unit", "role", "static arm", box=None)
    static = loaded.static().parameters
    for name, parameter in loaded.parameters.items():
        scale, unit = getattr(parameter, "scale", ""), parameter.unit or ""
        of_static = _static_cell(parameter, static.get(name))
        table.add_row(
            name, parameter.type, _limits(parameter), scale, unit, parameter.role, of_static
        )
    for name, parameter in static.items():
        if name not in loaded.parameters:
            table.add_row(name, "", "", "", "", "", _static_cell(None, parameter))
    console.print(loaded.name, style="bold", end="")
    console.print(f"  hash {loaded.hash}")
    paragraph(loaded.description)
    console.print()
    console.print(table)
    for point in loaded.points:
        console.print(f"starts from: {point_in_words(point)}")


@space_app.command("sample", epilog=examples("`dynloss space sample spirals-mlp -n 8 --sobol`"))
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


@space_app.command(
    "grid", epilog=examples("`dynloss space grid spirals-mlp period=8 amplitude=8 learning_rate=3`")
)
def space_grid(
    space: SpaceArgument,
    counts: Annotated[list[str], typer.Argument(metavar="PARAMETER=N...", help="Values of each.")],
) -> None:
    """Lay a grid over a space, as JSON lines."""
    import json

    import search_spaces

    wanted = {}
    for count in counts:
        name, _, number = count.partition("=")
        if not number.isdigit():
            raise ConfigError("", f"{count!r} is not PARAMETER=N", "write period=8, say")
        wanted[name] = int(number)
    for point in search_spaces.load(space).grid(wanted):
        typer.echo(json.dumps(point))


@space_app.command("diff", epilog=examples("`dynloss space diff spirals-mlp my_space.yaml`"))
def space_diff(
    one: SpaceArgument,
    other: Annotated[str, typer.Argument(metavar="SPACE", help="Another one.")],
) -> None:
    """Show what differs between two spaces, for both arms; exit code 1 if anything does."""
    import search_spaces

    before, after = search_spaces.load(one), search_spaces.load(other)
    table = Table("parameter", before.name, after.name, box=None)
    for arm, spaces in (("", (before, after)), ("static: ", (before.static(), after.static()))):
        first, second = (space.parameters for space in spaces)
        for name in dict.fromkeys([*first, *second]):
            shown = [_described(parameters.get(name)) for parameters in (first, second)]
            if shown[0] != shown[1]:
                table.add_row(arm + name, *shown)
    if not table.row_count:
        console.print("the same parameters")
        return
    console.print(table)
    raise typer.Exit(1)


@space_app.command(
    "narrow",
    epilog=examples(
        "`dynloss space narrow spirals-mlp --from quickstart > narrow.yaml`",
        "`dynloss space narrow spirals-mlp --from a --from b --top 5%`",
    ),
)
def space_narrow(
    space: SpaceArgument,
    studies: Annotated[
        list[str],
        typer.Option("--from", metavar="STUDY", help="A study that has been run; repeatable."),
    ],
    top: Annotated[
        str, typer.Option("--top", metavar="P%", help="Share of each arm's trials to keep.")
    ] = "10%",
    out: Out = DEFAULT_OUT,
) -> None:
    """Narrow a space to where past studies were best, each arm to its own range; print a file."""
    import search_spaces
    from dynloss_core.config import to_dict
    from search_spaces.documents import dump_document
    from studies.report.trial_table import searched_trials
    from studies.search.narrowing import narrowed
    from studies.storage.recorded_study import recorded_study
    from studies.storage.stored_study import StoredStudy

    number = top.removesuffix("%")
    if not number.replace(".", "", 1).isdigit() or not 0 < float(number) <= 100:
        raise ConfigError("--top", f"{top!r} is not a percentage", "write 10%, say")
    stored_studies = [StoredStudy.read(recorded_study(study, out)) for study in studies]
    objectives = {stored.study.objective for stored in stored_studies}
    if len(objectives) > 1:
        problem = f"these studies have different objectives: {', '.join(sorted(objectives))}"
        raise ConfigError("--from", problem, "narrow from studies of one objective")
    trials = {
        stored.study.name: searched_trials(stored.study, stored.folder.parts.gather("members"))
        for stored in stored_studies
    }
    loaded = search_spaces.load(space)
    made = narrowed(loaded, trials, stored_studies[0].study.objective, float(number) / 100)
    typer.echo(dump_document(to_dict(made)), nl=False)


def _described(parameter: Parameter | None) -> str:
    """A parameter in a cell: its range and scale, its values, or that there is none."""
    if parameter is None:
        return "none"
    scale = getattr(parameter, "scale", None)
    limits = f"= {brief(parameter.value)}" if parameter.type == "const" else _limits(parameter)
    return ", ".join(filter(None, (limits, scale, parameter.unit)))


def _limits(parameter: Parameter) -> str:
    """`0.01 to 1`, or the list of values."""
    if parameter.type in ("float", "int"):
        return f"{parameter.low:g} to {parameter.high:g}"
    return ", ".join(str(value) for value in parameter.grid(1))


def _static_cell(parameter: Parameter | None, kept: Parameter | None) -> str:
    """What the static arm makes of a parameter."""
    if kept is None:
        return "dropped"
    if kept == parameter:
        return "same"
    if kept.type == "const":
        return f"= {brief(kept.value)}"
    return f"{_limits(kept)}, {kept.scale}" if kept.type in ("float", "int") else _limits(kept)
