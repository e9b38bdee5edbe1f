"""Commands that look before anything runs: `list`, `show` and `schema`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.table import Table

from dynloss_core.config import ConfigError
from studies.cli.app import app
from studies.cli.examples import examples
from studies.cli.options import Out, Overrides, Plugins, Profile, StudyArgument
from studies.messages import DEFAULT_OUT, console, question_in, repeat_command
from studies.out_folder import shown, store_address

if TYPE_CHECKING:
    from studies.storage.study_paths import StudyPaths

__all__ = ["list_studies", "schema", "show"]

_PIPED = 100  # columns


@app.command("list", epilog=examples("`dynloss list`", "`dynloss list --out /shared/results`"))
def list_studies(
    out: Out = DEFAULT_OUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the studies of the library, and those that were run here with what they found."""
    library, recorded = _library(), _recorded(out)
    if as_json:
        typer.echo(json.dumps({"library": library, "recorded": recorded}, indent=2))
        return
    _print("Library", library, ["name", "mode", "question"])
    if recorded:
        console.print()
        _print(shown(out), recorded, ["name", "state", "verdict"])
    else:
        first = repeat_command(["run", "quickstart"], out)
        console.print(f"\nnothing was run in {shown(out)} yet: start with  {first}")


@app.command(
    epilog=examples(
        "`dynloss show quickstart`",
        "`dynloss show quickstart > mine.yaml` begins a study of your own",
    )
)
def show(
    study: StudyArgument,
    overrides: Overrides = None,
    profile: Profile = None,
    plugins: Plugins = None,
) -> None:
    """Show a study with its space and its profile resolved, as a file that can be run."""
    from dynloss_core.config import to_dict
    from search_spaces.documents import dump_document
    from studies.definition.study_files import LIBRARY, load_study

    loaded = load_study(study, overrides or (), profile, plugins or ())
    trials = ", ".join(f"{loaded.trials_of(arm).count} {arm}" for arm in loaded.arms)
    unit = "trials" if loaded.searches == 1 else f"trials in each of {loaded.searches} searches"
    typer.echo(f"# {loaded.members():,} networks; {unit}: {trials}; hash {loaded.hash}")
    for plugin in loaded.plugins:
        typer.echo(f"# needs {plugin.file} in a folder plugins/ beside this file")
    typer.echo(f"# yaml-language-server: $schema={LIBRARY / 'study.schema.json'}")
    typer.echo(dump_document(to_dict(loaded)), nl=False)


@app.command(
    epilog=examples(
        "`dynloss schema > study.schema.json`",
        "`dynloss schema space`",
        note="An editor that speaks YAML checks a file that begins with "
        "`# yaml-language-server: $schema=study.schema.json`.",
    )
)
def schema(
    kind: Annotated[str, typer.Argument(metavar="[study|space]", help="Which files.")] = "study",
) -> None:
    """Print the JSON Schema of study or space files, with which an editor completes and checks."""
    from studies.definition.schemas import FileKind, schema_text

    if kind not in get_args(FileKind):
        raise ConfigError("", f"no schema of {kind!r}", "give study or space")
    typer.echo(schema_text(cast(FileKind, kind)), nl=False)


def _library() -> list[dict[str, str]]:
    """Name, mode and question of each study that ships with the suite."""
    from search_spaces.documents import read_document

    library = Path(__file__).parents[1] / "library"
    documents = [read_document(path) for path in sorted(library.glob("*.yaml"))]
    return [
        {
            "name": str(document["name"]),
            "mode": str(document.get("mode", "optimize")),
            "question": question_in(str(document.get("description", ""))),
        }
        for document in documents
    ]


def _recorded(out: Path) -> list[dict[str, str]]:
    """Name, state and verdict of each study in an output folder, the latest first."""
    from studies.storage.study_paths import StudyPaths

    if store_address(out) is not None:
        from studies.storage.mirror import refresh_all

        refresh_all(out, ("study.yaml", "summary.json"))
    folders = [StudyPaths(path.parent) for path in out.glob("*/study.yaml")]
    folders.sort(key=lambda study: study.definition.stat().st_mtime, reverse=True)
    return [{"name": study.path.name, **_state_of(study)} for study in folders]


def _state_of(study: StudyPaths) -> dict[str, str]:
    """State and verdict, from the summary alone: a study that runs is not disturbed."""
    from studies.definition.network_counts import in_short
    from studies.storage.recorded_verdicts import outcomes_in

    state, verdict = "begun", ""
    try:
        summary = json.loads(study.summary.read_text(encoding="utf-8"))
        verdict = outcomes_in(summary)
        state = "analysed"  # by a version that did not count
        if networks := summary.get("networks"):
            trained, in_all = int(networks["trained"]), int(networks["in_all"])
            state = f"{trained:,} of {in_all:,} networks"
            if trained >= in_all:
                tried = sum(int(arm["tried"]) for arm in summary.get("trials", {}).values())
                state = f"finished, {in_short(tried, trained)}"
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"state": "unknown", "verdict": f"{study.summary.name} cannot be read"}
    return {"state": "running" if study.is_locked() else state, "verdict": verdict}


def _print(title: str, rows: list[dict[str, str]], columns: list[str]) -> None:
    if not console.is_terminal:
        _print_whole_rows(title, rows, columns)
        return
    table = Table(box=None, title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0], no_wrap=True)  # to be typed
    for name in columns[1:-1]:
        table.add_column(name)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    console.print(table)


def _print_whole_rows(title: str, rows: list[dict[str, str]], columns: list[str]) -> None:
    """A line per row, as `grep` and `cut` like it: what the last column is too long for is left
    out, at a word (`--json` has it all)."""
    lines = [{name: name for name in columns}, *rows]
    widths = [max(len(line[name]) for line in lines) for name in columns[:-1]]
    console.print(title)
    for line in lines:
        start = "".join(f"{line[c]:<{w}}  " for c, w in zip(columns, widths, strict=False))
        room = max(_PIPED - len(start), 20)
        console.print(f"{start}{textwrap.shorten(line[columns[-1]], room, placeholder=' ...')}")
