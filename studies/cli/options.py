"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.out_folder import out_folder

__all__ = [
    "Address",
    "ArmOption",
    "BackendOption",
    "CodeChanged",
    "DataDir",
    "Direction",
    "Download",
    "Groups",
    "Order",
    "Out",
    "Overrides",
    "Plugins",
    "Profile",
    "Quiet",
    "RecordedStudy",
    "SearchOption",
    "Settings",
    "Shape",
    "StudyArgument",
    "Verbose",
    "with_data",
    "with_plugins",
]


def escape_leading_dash(study: str | None) -> str | None:
    """A study's argument, with `./` before a leading dash, so that it can be typed again."""
    return f"./{study}" if study is not None and study.startswith("-") else study


StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study from the library, by name, or a .yaml file.",
        callback=escape_leading_dash,
    ),
]
RecordedStudy = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study that has been run: its name, file or folder.",
        callback=escape_leading_dash,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        parser=out_folder,
        help="Output folder, or s3://BUCKET/PREFIX; each study gets a folder in it.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace an entry of the file; repeatable."),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="A Python file of your networks, data, losses, shapes or analyses; repeatable.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="A", help="Ray cluster: auto, HOST:PORT, or ray://HOST:PORT."
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="B",
        help="What trains: ray, processes (of this machine) or inline (one block after another).",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="P", help="A variant defined in the file, e.g. reduced."),
]
CodeChanged = Annotated[
    bool,
    typer.Option("--code-changed", help="Continue although the code or versions have changed."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the results and what fails; no progress.")
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show what libraries log, too; log.txt keeps it anyway."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder of image data, searched first."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Download the data set first if it is missing.")
]
ArmOption = Annotated[
    str | None,
    typer.Option(
        "--arm", metavar="ARM", help="By default the first arm that is not the reference."
    ),
]
SearchOption = Annotated[
    int, typer.Option("--search", metavar="N", help="The search that chose the winner, from 1.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--setting",
        metavar="KEY=VALUE",
        help="model.width=50, where a study has a winner at each of several; repeatable.",
    ),
]
Groups = Annotated[
    str,
    typer.Option(help="What oscillates together: classes, random, stratified, all, samples, own."),
]
Order = Annotated[str, typer.Option(help="Order of the turns: cyclic, permuted, random.")]
Shape = Annotated[str, typer.Option(help="Shape of a turn: triangle, sine, square, sawtooth.")]
Direction = Annotated[str, typer.Option(help="Which way the active group's weight goes: up, down.")]


def with_plugins(plugins: list[Path] | None) -> list[str]:
    """The options that name plug-ins, to be typed again."""
    return [word for plugin in plugins or [] for word in ("--plugin", str(plugin))]


def with_data(folder: Path | None) -> list[str]:
    """The option that names the folder of data, to be typed again."""
    return [] if folder is None else ["--data-dir", str(folder)]
