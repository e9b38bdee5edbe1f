"""The command `dynloss`, to which the modules beside this one add their commands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from studies.cli.space_commands import space_app

__all__ = ["INTERRUPTED", "USAGE_ERROR", "app"]

USAGE_ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter-search studies of dynamical loss functions.",
    epilog=(
        "Start with `dynloss run quickstart`, then `dynloss ui`. "
        "`dynloss COMMAND --help` shows examples."
    ),
)
app.add_typer(space_app, name="space")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynloss {version('dynloss')}")
        raise typer.Exit


@app.callback()
def dynloss(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options of `dynloss` itself."""
