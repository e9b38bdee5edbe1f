"""Commands that train: `run`, `submit` and `confirm`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dynloss_core.config import ConfigError
from studies.cli.app import INTERRUPTED, USAGE_ERROR, app
from studies.cli.examples import examples
from studies.cli.options import (
    Address,
    BackendOption,
    CodeChanged,
    DataDir,
    Download,
    Out,
    Overrides,
    Plugins,
    Profile,
    Quiet,
    RecordedStudy,
    StudyArgument,
    Verbose,
    with_data,
    with_plugins,
)
from studies.cli.result_lines import show_results
from studies.cli.terminal import show_crash, show_estimate
from studies.messages import DEFAULT_OUT, console, repeat_command, say, starting
from studies.out_folder import store_address
from studies.storage.write_errors import NotWrittenError

if TYPE_CHECKING:
    from studies.definition.study import Study
    from studies.runner.run_study import RunResult

__all__ = ["confirm", "run", "submit"]


@app.command(
    epilog=examples(
        "`dynloss run quickstart`",
        "`dynloss run my.yaml --dry-run`",
        "`dynloss run quickstart --set budget.total=2000 --set budget.static_tail=500 --out tmp`",
        "`dynloss run quickstart --extend-searches 4`",
        "`dynloss run quickstart --backend inline`",
        "`dynloss run quickstart --plugin nets.py --set model.name=my_net`",
        "`dynloss run my.yaml --out s3://my-bucket/studies`",
        "`dynloss run my.yaml --address auto`",
        "`dynloss run my.yaml --address ray://HOST:10001 --out /shared/results`",
    )
)
def run(
    study: StudyArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it would cost; start nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a study that has begun in its folder.")
    ] = False,
    extend: Annotated[
        int | None,
        typer.Option("--extend", metavar="N", min=1, help="Add N trials to each arm and continue."),
    ] = None,
    extend_searches: Annotated[
        int | None,
        typer.Option(
            "--extend-searches", metavar="N", min=1, help="Search N more times and continue."
        ),
    ] = None,
    reuse: Annotated[
        bool, typer.Option(help="Reuse networks already trained by studies in the output folder.")
    ] = True,
    code_changed: CodeChanged = False,
    address: Address = None,
    backend: BackendOption = None,
    out: Out = DEFAULT_OUT,
    profile: Profile = None,
    set_: Overrides = None,
    plugin: Plugins = None,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a study to its verdict: search, confirmation, tables, figures."""
    with starting(study, quiet=quiet):
        from dynloss_core.data import use_data_folder
        from studies.cluster.addresses import is_client
        from studies.cluster.backends import named
        from studies.definition.data_sets import ensure_data
        from studies.definition.study_files import load_study
        from studies.runner.run_study import run_study

    given = set_ or []
    chosen = [] if backend is None else [f"backend={named(backend)}"]
    if data_dir is not None and data_dir.is_dir():  # else it may be another machine's
        use_data_folder(data_dir)
    definition = load_study(study, [*given, *chosen], profile, plugin or [])
    arguments = ["run", study, "--resume"]
    if profile is not None:
        arguments += ["--profile", profile]
    for override in given:
        arguments += ["--set", override]
    arguments += [] if backend is None else ["--backend", backend]
    arguments += with_plugins(plugin)
    arguments += with_data(data_dir) + ([] if reuse else ["--no-reuse"])
    arguments += ["--code-changed"] if code_changed else []
    go_on = repeat_command(arguments, out, address)
    if is_client(address) and definition.backend == "ray":
        flags = {"--dry-run": dry_run, "--resume": resume, "--no-reuse": not reuse}
        flags |= {"--download": download, "--code-changed": code_changed}
        flags |= {"--quiet": quiet, "--verbose": verbose}
        options = [flag for flag, given in flags.items() if given]
        for name, more in (("--extend", extend), ("--extend-searches", extend_searches)):
            options += [] if more is None else [name, str(more)]
        words = ["run", "study.yaml", *options, *with_data(data_dir)]
        _drive(definition, address, out, go_on, *words)
    if dry_run:
        _estimate(definition, address, data_dir, download=download)
        return
    ensure_data(definition.data, data_dir, download=download)
    _conclude(
        definition,
        out,
        lambda: run_study(
            definition,
            out,
            address=address,
            resume=resume,
            more=extend,
            more_searches=extend_searches,
            reuse=reuse,
            code_changed=code_changed,
            quiet=quiet,
            verbose=verbose,
        ),
        go_on,
    )


@app.command(
    epilog=examples(
        "`dynloss submit my.yaml --address http://127.0.0.1:8265 --out /shared/results`"
    )
)
def submit(
    study: StudyArgument,
    address: Annotated[
        str, typer.Option("--address", metavar="URL", help="The cluster's dashboard, with http://.")
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Output folder on the cluster, absolute, or s3://BUCKET/PREFIX.",
        ),
    ],
    profile: Profile = None,
    set_: Overrides = None,
    plugin: Plugins = None,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", metavar="DIR", help="Folder of image data on the cluster."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show its output until it ends.")
    ] = True,
) -> None:
    """Send a study, and the code for it, to a Ray cluster, to run there without you."""
    from studies.cluster.job_submission import follow
    from studies.cluster.job_submission import submit as send
    from studies.definition.study_files import load_study

    job = send(load_study(study, set_ or [], profile, plugin or []), address, out, data_dir)
    where = shlex.join(["--address", address, job])
    console.print(f"submitted as {job}; its results will be in {out}")
    console.print(f"watch it:  ray job logs --follow {where}")
    console.print(f"end it:    ray job stop {where}")
    if wait and not follow(address, job):
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "`dynloss confirm spirals_width_sweep`",
        "`dynloss confirm quickstart --seeds 60`",
        "`dynloss confirm quickstart --until-decided --at-most 4`",
    )
)
def confirm(
    study: RecordedStudy,
    seeds: Annotated[
        int | None,
        typer.Option(min=2, help="Fresh seeds; by default as many as a power analysis asks for."),
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Look again until nothing is undecided."),
    ] = False,
    at_most: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most N looks in all, with --until-decided.")
    ] = 5,
    code_changed: CodeChanged = False,
    address: Address = None,
    backend: BackendOption = None,
    out: Out = DEFAULT_OUT,
    data_dir: DataDir = None,
    download: Download = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Rerun each arm's winner on fresh seeds and write the verdict, or finish a round."""
    with starting(study, quiet=quiet):
        from studies.cluster.addresses import is_client
        from studies.cluster.backends import named
        from studies.definition.data_sets import ensure_data
        from studies.runner.run_study import confirm_study
        from studies.runner.until_decided import confirm_until_decided
        from studies.storage.recorded_study import name_of_study, recorded_study
        from studies.storage.stored_study import stored_definition

    trains = None if backend is None else named(backend)
    if is_client(address) and trains in (None, "ray"):
        options = [] if seeds is None else ["--seeds", str(seeds)]
        options += ["--until-decided", "--at-most", str(at_most)] if until_decided else []
        options += ["--download"] if download else []
        options += ["--code-changed"] if code_changed else []
        options += ["--quiet"] if quiet else []
        options += ["--verbose"] if verbose else []
        go_on = repeat_command(["confirm", study, *with_data(data_dir)], out, address)
        words = ["confirm", name_of_study(study), *options, *with_data(data_dir)]
        _drive(None, address, out, go_on, *words)
    folder = recorded_study(study, out)
    definition = stored_definition(folder)
    ensure_data(definition.data, data_dir, download=download)
    arguments = ["confirm", study, *with_data(data_dir)]
    arguments += [] if backend is None else ["--backend", backend]

    def work() -> RunResult:
        if not until_decided:
            return confirm_study(
                folder,
                seeds=seeds,
                address=address,
                backend=trains,
                code_changed=code_changed,
                quiet=quiet,
                verbose=verbose,
            )
        return confirm_until_decided(
            folder,
            at_most=at_most,
            seeds=seeds,
            address=address,
            backend=trains,
            code_changed=code_changed,
            quiet=quiet,
            verbose=verbose,
        )

    _conclude(definition, folder.path.parent, work, repeat_command(arguments, out, address))


def _conclude(study: Study, out: Path, work: Callable[[], RunResult], go_on: str) -> None:
    """Do the work, print its outcome, and exit with the code for it."""
    from studies.storage.study_folder import StudyFolder

    deliver = repeat_command(["sync", study.name], out)
    try:
        outcome = work()
    except NotWrittenError as error:
        say(f"dynloss: {error}", whole=True)
        say(f"continue with:  {go_on}", whole=True)
        raise typer.Exit(USAGE_ERROR) from None
    except ConfigError:
        raise
    except KeyboardInterrupt:  # before the training, or after it; that ends in order by itself
        trained = StudyFolder(out / study.name).has_training()
        kept = "while the results were written; everything trained is kept"
        say(f"stopped {kept if trained else 'before anything was trained'}")
        say(f"continue with:  {go_on}", whole=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        show_crash(error, out / study.name)
        say(f"continue with:  {go_on}", whole=True)
        raise typer.Exit(1) from None
    for block, reason in outcome.failures.items():
        console.print(f"block {block} failed: {reason}", style="red")
    if not outcome.finished:
        say("stopped; everything so far is kept")
        say(f"continue with:  {go_on}", whole=True)
        raise typer.Exit(INTERRUPTED)
    show_results(study, outcome.folder, outcome.results)
    if outcome.unreachable:
        say(f"\nMLflow is unreachable: {outcome.unreachable}")
        say(f"everything is kept on disk; deliver it with:   {deliver}", whole=True)
    missing = outcome.results.without_winner(study)
    if missing:
        failed = [arm for arm in missing if any(f"-{arm}-" in block for block in outcome.failures)]
        lacking = "could be trained (see above)" if failed else "trained without diverging"
        arms = " and no ".join(failed or missing)
        say(f"no verdict: there is no {arms} trial that {lacking}")
        raise typer.Exit(1)


def _drive(study: Study | None, address: str, out: Path, go_on: str, *arguments: str) -> NoReturn:
    """Run a command on the cluster and exit with its code. What it prints about resuming applies
    there, so print how to resume from here."""
    from studies.cluster.remote_driver import drive

    code = drive(study, address, store_address(out) or str(out), *arguments)
    if code == INTERRUPTED:
        say(f"from here:   {go_on}", whole=True)
    raise typer.Exit(code)


def _estimate(study: Study, address: str | None, data: Path | None, *, download: bool) -> None:
    from studies.cluster.backends import backend_of
    from studies.definition.data_sets import ensure_data
    from studies.runner.dry_run import cost_of

    if download or data is None or data.is_dir():  # otherwise it may be another machine's folder
        ensure_data(study.data, data, download=download)
    with backend_of(study).joined(address) as capacity:
        pass
    show_estimate(study, cost_of(study, capacity), capacity)
