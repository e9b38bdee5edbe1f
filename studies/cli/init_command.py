"""The command `init`: files to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynloss_core.config import ConfigError
from dynloss_core.own_command import own_command
from studies.cli.app import app
from studies.cli.examples import examples
from studies.messages import console

__all__ = ["init"]

TEMPLATES = Path(__file__).parents[1] / "library" / "templates"

_STUDY = "my_study.yaml"
_FILES = {"model": "my_network.py", "data": "my_data.py", "space": "my_space.yaml", "study": _STUDY}


@app.command(
    epilog=examples(
        "`dynloss init mine` writes all four, wired together",
        "`dynloss init --model` only a network",
        "`dynloss init mine --study --data`",
    )
)
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to write; made if it is missing.")
    ] = Path(),
    model: Annotated[bool, typer.Option("--model", help="Write a network.")] = False,
    data: Annotated[bool, typer.Option("--data", help="Write a data set.")] = False,
    space: Annotated[bool, typer.Option("--space", help="Write a search space.")] = False,
    study: Annotated[bool, typer.Option("--study", help="Write a study of the others.")] = False,
) -> None:
    """Write commented examples that run: a network, a data set, a space, and a study of them."""
    given = {"model": model, "data": data, "space": space, "study": study}
    chosen = [part for part, asked in given.items() if asked] or list(given)
    paths = [folder / _FILES[part] for part in chosen]
    for path in paths:
        if path.exists():
            raise ConfigError("", "is there already", "choose another folder", str(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, path in zip(chosen, paths, strict=True):
            text = (TEMPLATES / _FILES[part]).read_text(encoding="utf-8")
            path.write_text(_wired(text, chosen) if part == "study" else text, encoding="utf-8")
            console.print(f"wrote      {path}")
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        raise ConfigError("", problem, "choose another folder", str(folder)) from None
    for part, path in zip(chosen, paths, strict=True):
        if part in ("model", "data"):
            console.print(f"check it   {own_command('check', str(path))}")
        elif part == "space":
            console.print(f"see it     {own_command('space', 'show', str(path))}")
        else:
            console.print(f"cost       {own_command('run', str(path), '--dry-run')}")
            console.print(f"run it     {own_command('run', str(path))}")


def _wired(study: str, chosen: list[str]) -> str:
    """The study, with the parts that are written beside it, or those of the library."""
    files = [f"./{_FILES[part]}" for part in ("model", "data") if part in chosen]
    parts = {
        "plugins": f"plugins: [{', '.join(files)}]\n" if files else "",
        "data": "{name: my_data}" if "data" in chosen else "{name: spirals}",
        "model": "{name: my_network, width: 16}" if "model" in chosen else "{name: mlp, width: 20}",
        "space": f"./{_FILES['space']}" if "space" in chosen else "spirals-mlp",
    }
    for name, text in parts.items():
        study = study.replace(f"{{{name}}}", text)
    return study
