"""The command `dynloss`.

Commands are thin: they read arguments, call the suite, and print. What is slow to import is
imported inside them, so that `--help` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dynloss_core.config import ConfigError
from studies.cli.space_commands import space_app
from studies.cli.terminal import (
    DEFAULT_OUT,
    again,
    show_changing,
    show_comparison,
    show_crash,
    show_estimate,
    show_results,
)
from studies.messages import console, replace_what_cannot_be_shown, say

if TYPE_CHECKING:
    from studies.definition.study import Study
    from studies.runner.run_study import Outcome
    from studies.storage.study_folder import StudyFolder

__all__ = ["app", "main"]

USAGE_ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
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
    """What holds for every command."""


def _never_an_option(study: str | None) -> str | None:
    """A path that begins with a dash, so that a command with it can be typed again."""
    return f"./{study}" if study is not None and study.startswith("-") else study


StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study of the library by name, or a .yaml file.",
        callback=_never_an_option,
    ),
]
RecordedStudy = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study that was run: its name, file or folder.",
        callback=_never_an_option,
    ),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Output folder; a study has a folder in it.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace an entry of the file; repeatable."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="A", help="Ray cluster: auto, HOST:PORT, or ray://HOST:PORT."
    ),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="P", help="A variant that the file defines, e.g. reduced."),
]
CodeChanged = Annotated[
    bool,
    typer.Option(
        "--code-changed", help="Go on though code or versions are not those it began with."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder of image data, looked into first."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the data set first, where it is nowhere.")
]


@app.command(
    epilog=(
        "Examples: `dynloss run quickstart` · `dynloss run my.yaml --dry-run` · "
        "`dynloss run quickstart --set budget.total=2000 --set budget.static_tail=500 --out tmp` · "
        "`dynloss run my.yaml --address auto` · "
        "`dynloss run my.yaml --address ray://HOST:10001 --out /shared/results`"
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
    extend: Annotated[
        int | None,
        typer.Option("--extend", metavar="N", min=1, help="Add N trials to each arm, and go on."),
    ] = None,
    reuse: Annotated[
        bool, typer.Option(help="Take networks that a study in the output folder trained before.")
    ] = True,
    code_changed: CodeChanged = False,
    address: Address = None,
    out: Out = DEFAULT_OUT,
    profile: Profile = None,
    set_: Overrides = None,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Run a study to its verdict: search, confirmation, tables, figures."""
    from studies.cluster.addresses import is_client
    from studies.definition.data_sets import provide
    from studies.definition.study_files import load_study

    definition = load_study(study, set_ or [], profile)
    arguments = ["run", study, "--resume"]
    if profile is not None:
        arguments += ["--profile", profile]
    for override in set_ or []:
        arguments += ["--set", override]
    arguments += _with_data(data_dir) + ([] if reuse else ["--no-reuse"])
    arguments += ["--code-changed"] if code_changed else []
    go_on = again(arguments, out, address)
    if is_client(address):
        flags = {"--dry-run": dry_run, "--resume": resume, "--no-reuse": not reuse}
        flags |= {"--download": download, "--code-changed": code_changed}
        options = [flag for flag, given in flags.items() if given]
        options += [] if extend is None else ["--extend", str(extend)]
        words = ["run", "study.yaml", *options, *_with_data(data_dir)]
        _drive(definition, address, out, go_on, *words)
    if dry_run:
        _estimate(definition, address, data_dir, download=download)
        return
    provide(definition.data, data_dir, download=download)
    from studies.runner.run_study import run_study

    _conclude(
        definition,
        out,
        lambda: run_study(
            definition,
            out,
            address=address,
            resume=resume,
            more=extend,
            reuse=reuse,
            code_changed=code_changed,
        ),
        go_on,
    )


@app.command(
    epilog=(
        "Example: `dynloss submit my.yaml --address http://127.0.0.1:8265 --out /shared/results`"
    )
)
def submit(
    study: StudyArgument,
    address: Annotated[
        str, typer.Option("--address", metavar="URL", help="The cluster's dashboard, with http://.")
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Output folder on the cluster, absolute.")
    ],
    profile: Profile = None,
    set_: Overrides = None,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", metavar="DIR", help="Folder of image data on the cluster."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show what it says until it ends.")
    ] = True,
) -> None:
    """Send a study, and the code for it, to a Ray cluster, to run there without you."""
    from studies.cluster.job_submission import follow
    from studies.cluster.job_submission import submit as send
    from studies.definition.study_files import load_study

    job = send(load_study(study, set_ or [], profile), address, out, data_dir)
    where = shlex.join(["--address", address, job])
    console.print(f"submitted as {job}; its results will be in {out}")
    console.print(f"watch it:  ray job logs --follow {where}")
    console.print(f"end it:    ray job stop {where}")
    if wait and not follow(address, job):
        raise typer.Exit(1)


@app.command(
    epilog=(
        "Examples: `dynloss confirm spirals_width_sweep` · `dynloss confirm quickstart --seeds 60`"
    )
)
def confirm(
    study: RecordedStudy,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, help="Fresh seeds; by default what the power analysis asks for."),
    ] = None,
    code_changed: CodeChanged = False,
    address: Address = None,
    out: Out = DEFAULT_OUT,
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Rerun each arm's winner on fresh seeds and write the verdict; goes on with one begun."""
    from studies.cluster.addresses import is_client
    from studies.definition.data_sets import provide
    from studies.runner.run_study import confirm_study

    if is_client(address):
        options = [] if seeds is None else ["--seeds", str(seeds)]
        options += ["--download"] if download else []
        options += ["--code-changed"] if code_changed else []
        go_on = again(["confirm", study, *_with_data(data_dir)], out, address)
        words = ["confirm", _name_of(study), *options, *_with_data(data_dir)]
        _drive(None, address, out, go_on, *words)
    folder = _recorded(study, out)
    definition = folder.study()
    provide(definition.data, data_dir, download=download)
    arguments = ["confirm", study, *_with_data(data_dir)]
    _conclude(
        definition,
        folder.path.parent,
        lambda: confirm_study(folder, seeds=seeds, address=address, code_changed=code_changed),
        again(arguments, out, address),
    )


def _conclude(study: Study, out: Path, work: Callable[[], Outcome], go_on: str) -> None:
    """Do the work, print what came of it, and leave with the exit code that says so."""
    deliver = again(["sync", study.name], out, None)
    try:
        outcome = work()
    except ConfigError:
        raise
    except Exception as error:
        show_crash(error, out / study.name)
        say(f"go on with:  {go_on}")
        raise typer.Exit(1) from None
    for block, reason in outcome.failures.items():
        console.print(f"block {block} failed: {reason}", style="red")
    if not outcome.finished:
        say("stopped; everything so far is kept")
        say(f"go on with:  {go_on}")
        raise typer.Exit(INTERRUPTED)
    show_results(study, outcome.folder, outcome.results)
    if outcome.away:
        say(f"\nMLflow is away: {outcome.away}")
        say(f"all of it waits on disk; deliver it with:  {deliver}")
    missing = outcome.results.without_winner(study)
    if missing:
        failed = [arm for arm in missing if any(f"-{arm}-" in block for block in outcome.failures)]
        lacking = "could be trained (see above)" if failed else "trained without diverging"
        arms = " and no ".join(failed or missing)
        say(f"no verdict: there is no {arms} trial that {lacking}")
        raise typer.Exit(1)


@app.command(epilog="Example: `dynloss sync quickstart`")
def sync(study: RecordedStudy, out: Out = DEFAULT_OUT) -> None:
    """Deliver to MLflow what waits on disk since its server was away."""
    from studies.runner.run_study import sync_study

    delivered, uri = sync_study(_recorded(study, out))
    console.print(f"delivered {delivered} trials to {uri}; nothing is left")


@app.command(
    epilog=(
        "Examples: `dynloss status quickstart` · `dynloss status quickstart --watch` · "
        "`dynloss status quickstart --json`"
    )
)
def status(
    study: RecordedStudy,
    out: Out = DEFAULT_OUT,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew until no driver is at work.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it for a program.")] = False,
) -> None:
    """Say how far a study is and what it has found so far; also while it runs."""
    from studies.storage.status import study_status

    folder = _recorded(study, out)
    if json:
        typer.echo(study_status(folder).json())
    elif watch:
        show_changing(lambda: study_status(folder))
    else:
        console.print(str(study_status(folder)))


@app.command(epilog="Example: `dynloss stop quickstart`")
def stop(
    study: RecordedStudy,
    out: Out = DEFAULT_OUT,
    wait: Annotated[bool, typer.Option(help="Wait until the study has ended.")] = True,
) -> None:
    """End a running study as Ctrl-C would, from another terminal or machine."""
    import time

    folder = _recorded(study, out)
    at_work = folder.is_locked()
    if not at_work:
        console.print("no driver is at work on it")
    else:
        folder.ask_to_stop()
        while wait and folder.is_locked():
            time.sleep(0.5)
        console.print("stopped" if wait else "asked to stop")
    folder.study()  # refused where its definition was edited: it would not go on
    if not at_work:
        return
    arguments = ["run", str(folder.definition), "--resume"]
    console.print(f"go on with:  {again(arguments, folder.path.parent, None)}")


@app.command(
    epilog=(
        "Examples: `dynloss analyse quickstart` · "
        "`dynloss analyse quickstart digits spirals_width_sweep` puts them side by side · "
        "`dynloss analyse /theirs/quickstart --into mine` leaves their folder as it is"
    )
)
def analyse(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY...", help="Studies that were run.")
    ],
    out: Out = DEFAULT_OUT,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="DIR", help="Write there, and leave the studies' folders."),
    ] = None,
) -> None:
    """Analyse a study again from its tables; several go into one table and one figure."""
    from studies.storage.study_folder import StudyFolder

    folders = [_recorded(study, out) for study in studies]
    if len(folders) == 1:
        from studies.report.study_results import write_results

        definition = folders[0].study()
        results = write_results(definition, folders[0], into)
        show_results(definition, folders[0] if into is None else StudyFolder(into), results)
        return
    from studies.report.side_by_side import compare_studies

    show_comparison(compare_studies(folders, out / "across" if into is None else into))


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
    from studies.storage.tracking.mlflow_ui import serve

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
    data_dir: DataDir = None,
    download: Download = False,
) -> None:
    """Train one network with the dynamical loss and watch it."""
    from studies.runner.single_run import train_one

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
    train_one(problem, member, console, trace, data_dir=data_dir, download=download)


def main() -> None:
    """Entry point: a refusal is one line and exit code 2, never a traceback."""
    replace_what_cannot_be_shown()
    try:
        app()
    except ConfigError as error:
        say(f"dynloss: {error}")
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        say("dynloss: interrupted")
        sys.exit(INTERRUPTED)


def _drive(study: Study | None, address: str, out: Path, go_on: str, *arguments: str) -> NoReturn:
    """Have a command run there, and leave with its exit code; what it says of going on is meant for
    there, so say how it is done from here."""
    from studies.cluster.remote_driver import drive

    code = drive(study, address, str(out), *arguments)
    if code == INTERRUPTED:
        say(f"from here:   {go_on}")
    raise typer.Exit(code)


def _with_data(folder: Path | None) -> list[str]:
    """The option that names the folder of data again."""
    return [] if folder is None else ["--data-dir", str(folder)]


def _recorded(study: str, out: Path) -> StudyFolder:
    """The folder of a study that was run, from its name, its file or the folder itself."""
    from studies.storage.study_folder import StudyFolder

    for path in (Path(study), out / study):
        if StudyFolder(path).exists():
            return StudyFolder(path)
    folder = StudyFolder(out / _name_in_file(study))
    if not folder.exists():
        remedy = f"run it first ({again(['run', study], out, None)}), or say where with --out"
        raise ConfigError("", "holds no study", remedy, str(folder.path))
    return folder


def _name_of(study: str) -> str:
    """The name of a study that was run elsewhere, from that, its file or a copy of its folder."""
    if (Path(study) / "study.yaml").is_file():
        return Path(study).resolve().name
    with suppress(ConfigError):  # then it is a name that only the folder there knows
        return _name_in_file(study)
    return study


def _name_in_file(study: str) -> str:
    """The name in a study's file, or in the library's of this name."""
    from search_spaces.documents import read_document
    from studies.definition.study_files import find_study

    return str(read_document(find_study(study)).get("name", study))


def _estimate(study: Study, address: str | None, data: Path | None, *, download: bool) -> None:
    from studies.cluster.ray_cluster import joined_cluster, local_resources
    from studies.definition.data_sets import provide
    from studies.runner.dry_run import estimate

    if download or data is None or data.is_dir():  # else it may be a folder of another machine
        provide(study.data, data, download=download)
    if address is None:
        capacity = local_resources()
    else:
        with joined_cluster(address) as capacity:
            pass
    show_estimate(study, estimate(study, capacity), capacity)
