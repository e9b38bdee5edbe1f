"""The command `export`: a study's winner as a plain PyTorch script."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from studies.cli.app import app
from studies.cli.examples import examples
from studies.cli.options import (
    ArmOption,
    DataDir,
    Download,
    Out,
    RecordedStudy,
    SearchOption,
    Settings,
)
from studies.messages import DEFAULT_OUT, console

__all__ = ["export"]


@app.command(
    epilog=examples(
        "`dynloss export quickstart`",
        "`dynloss export quickstart --arm static --search 2 --into scripts`",
        "`dynloss export spirals_width_sweep --setting model.width=100`",
    )
)
def export(
    study: RecordedStudy,
    arm: ArmOption = None,
    search: SearchOption = 1,
    seed: Annotated[
        int | None, typer.Option(help="By default the first fresh seed of the winner.")
    ] = None,
    setting: Settings = None,
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="Write there; made if it is missing.")
    ] = Path(),
    out: Out = DEFAULT_OUT,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Write a study's winner as a script that needs torch alone, and its tensors in a file."""
    from studies.definition.data_sets import ensure_data
    from studies.plain_script.write_export import export_winner
    from studies.storage.recorded_study import recorded_study
    from studies.storage.recorded_winner import recorded_winner
    from studies.storage.stored_study import StoredStudy

    stored = StoredStudy.read(recorded_study(study, out))
    ensure_data(stored.study.data, data_dir, download=download)
    winner = recorded_winner(stored, arm=arm, search=search, seed=seed, settings=setting or [])
    script = export_winner(winner, into)
    console.print(f"winner of {winner}")
    console.print(f"script     {script}")
    console.print(f"tensors    {script.with_suffix('.pt')}")
    console.print(f"run it     {shlex.join(['python', str(script)])}")
