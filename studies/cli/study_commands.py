"""Commands on a study that was run: `sync`, `status`, `stop`, `analyse` and `ui`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.cli.app import app
from studies.cli.examples import examples
from studies.cli.options import Out, RecordedStudy
from studies.cli.result_lines import show_results
from studies.cli.terminal import show_changing, show_comparison
from studies.messages import DEFAULT_OUT, UI_PORT, console, paragraph, repeat_command

if TYPE_CHECKING:
    from studies.storage.status_file import StudyStatus

__all__ = ["analyse", "status", "stop", "sync", "ui"]


@app.command(epilog=examples("`dynloss sync quickstart`"))
def sync(study: RecordedStudy, out: Out = DEFAULT_OUT) -> None:
    """Deliver to MLflow what has waited on disk since its server was unreachable."""
    from studies.runner.run_study import sync_study
    from studies.storage.recorded_study import recorded_study

    delivered, uri = sync_study(recorded_study(study, out))
    console.print(f"delivered {delivered} trials to {uri}; nothing is left")


@app.command(
    epilog=examples(
        "`dynloss status quickstart`",
        "`dynloss status quickstart --watch`",
        "`dynloss status quickstart --json`",
    )
)
def status(
    study: RecordedStudy,
    out: Out = DEFAULT_OUT,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh until no driver is running.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far a study is and what it has found so far, even while it runs."""
    from studies.storage.recorded_study import recorded_paths
    from studies.storage.status_file import kept_status

    paths = recorded_paths(study, out)

    def current() -> StudyStatus:
        if paths.store is not None and watch:
            from studies.storage.mirror import refresh

            refresh(paths)
        kept = kept_status(paths)
        if kept is not None:
            return kept
        from studies.storage.status import study_status  # and with it all of the suite
        from studies.storage.study_folder import StudyFolder

        return study_status(StudyFolder(paths.path))

    if json:
        typer.echo(current().json())
    elif watch:
        show_changing(current)
    else:
        for line in str(current()).splitlines():
            paragraph(line)


@app.command(epilog=examples("`dynloss stop quickstart`"))
def stop(
    study: RecordedStudy,
    out: Out = DEFAULT_OUT,
    wait: Annotated[bool, typer.Option(help="Wait until the study has ended.")] = True,
) -> None:
    """End a running study as Ctrl-C would, from another terminal or machine."""
    from studies.storage.recorded_study import recorded_study
    from studies.storage.stored_study import stored_definition

    folder = recorded_study(study, out)
    is_driven = folder.is_locked()
    if not is_driven:
        console.print("no driver is running it")
    else:
        folder.ask_to_stop()
        while wait and folder.is_locked():
            time.sleep(0.5)
        console.print("stopped" if wait else "asked to stop")
    stored_definition(folder)  # refuses an edited definition, with which the study cannot go on
    if not is_driven:
        return
    arguments = ["run", str(folder.definition), "--resume"]
    go_on = repeat_command(arguments, folder.path.parent, folder.state().get("address"))
    console.print(f"continue with:  {go_on}")


@app.command(
    epilog=examples(
        "`dynloss analyse quickstart`",
        "`dynloss analyse quickstart digits spirals_width_sweep` puts them side by side",
        "`dynloss analyse /theirs/quickstart --into mine` leaves their folder as it is",
        "`dynloss analyse quickstart --paper` adds LaTeX tables, and figures as PDF and SVG",
        "`dynloss analyse quickstart --analysis deaths.py` adds an analysis of your own",
    )
)
def analyse(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="Studies that have been run.")
    ],
    out: Out = DEFAULT_OUT,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into", metavar="DIR", help="Write there; leave the studies' folders alone."
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper", help="Write LaTeX tables, numbers, and figures as PDF and SVG too."
        ),
    ] = False,
    analysis: Annotated[
        list[str] | None,
        typer.Option(
            "--analysis",
            metavar="FILE",
            help="A Python file with analyses of your own, or the name of one that an installed "
            "package offers; may be given several times.",
        ),
    ] = None,
) -> None:
    """Analyse a study again from its tables; compare several in one table and one figure."""
    from dynloss_core.config import ConfigError
    from studies.analysis.user_analyses import AnalysisFunction, read_analyses
    from studies.storage.recorded_study import recorded_study
    from studies.storage.study_folder import StudyFolder

    folders = [recorded_study(study, out) for study in studies]
    if len(folders) == 1:
        from studies.report.study_results import write_results
        from studies.storage.mirror import put_results
        from studies.storage.stored_study import StoredStudy

        stored = StoredStudy.read(folders[0])
        own: dict[str, AnalysisFunction] = {}
        for file in analysis or []:
            functions = read_analyses(file)
            if twice := own.keys() & functions.keys():
                problem = f"{min(twice)!r} is in two files"
                raise ConfigError("--analysis", problem, "give one of them another name")
            own |= functions
        results = write_results(stored, into, own)
        if into is None:
            put_results(stored.folder)
        place = stored.folder if into is None else StudyFolder(into)
        show_results(stored.study, place, results, stored.folder)
        if paper:
            from studies.report.paper import write_paper

            write_paper(stored.study.name, results.analysis, place.path / "paper")
            console.print(f"paper      {place.path / 'paper'}")
        return
    if analysis:
        raise ConfigError("--analysis", "given with several studies", "analyse one at a time")
    from studies.report.side_by_side import compare_studies

    show_comparison(compare_studies(folders, out / "across" if into is None else into))


@app.command(epilog=examples("`dynloss ui`", "`dynloss ui quickstart --port 5001`"))
def ui(
    study: Annotated[
        str | None,
        typer.Argument(
            metavar="[STUDY]", help="A study that has been run; by default, all in the folder."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on this machine's loopback.")
    ] = UI_PORT,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser once MLflow answers.")
    ] = True,
    out: Out = DEFAULT_OUT,
) -> None:
    """Open MLflow's user interface on the runs of a study, on loopback only."""
    from studies.storage.recorded_study import recorded_study
    from studies.storage.tracking.mlflow_ui import serve

    folder = None if study is None else recorded_study(study, out)
    raise typer.Exit(serve(folder, out, port, opens=browser))
