"""The commands `dynloss space ...`, which need nothing but `search_spaces`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from studies.cli.terminal import in_a_line
from studies.messages import brief, console

if TYPE_CHECKING:
    from search_spaces import Parameter

__all__ = ["space_app"]

space_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, show and check search spaces, and draw points from them.",
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
        console.print(f"  {', '.join(space.searched())}\n    {space.description}")


@space_app.command("validate", epilog="Example: `dynloss space validate my_space.yaml`")
def space_validate(spaces: Annotated[list[str], typer.Argument(metavar="SPACE...")]) -> None:
    """Check spaces; stop at the first bad one with a line that says why, and exit code 2."""
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
    for name, parameter in loaded.parameters.items():
        scale, unit = getattr(parameter, "scale", ""), parameter.unit or ""
        of_static = _of_static(parameter, static.get(name))
        table.add_row(
            name, parameter.type, _limits(parameter), scale, unit, parameter.role, of_static
        )
    for name, parameter in static.items():
        if name not in loaded.parameters:
            table.add_row(name, "", "", "", "", "", _of_static(None, parameter))
    console.print(loaded.name, style="bold", end="")
    console.print(f"  hash {loaded.hash}\n{loaded.description}\n")
    console.print(table)
    for point in loaded.points:
        console.print(f"starts from: {in_a_line(point)}")


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


def _limits(parameter: Parameter) -> str:
    """`0.01 to 1`, or the list of values."""
    if parameter.type in ("float", "int"):
        return f"{parameter.low:g} to {parameter.high:g}"
    return ", ".join(str(value) for value in parameter.grid(1))


def _of_static(parameter: Parameter | None, kept: Parameter | None) -> str:
    """What the static arm makes of a parameter."""
    if kept is None:
        return "dropped"
    if kept == parameter:
        return "same"
    if kept.type == "const":
        return f"= {brief(kept.value)}"
    return f"{_limits(kept)}, {kept.scale}" if kept.type in ("float", "int") else _limits(kept)
