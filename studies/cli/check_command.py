"""The command `dynloss check`: what a plug-in may use, and whether it keeps the contracts."""

from __future__ import annotations

import importlib.util
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynloss_core.config import ConfigError, build, reason_of
from studies.cli.app import app
from studies.messages import console

if TYPE_CHECKING:
    from dynloss_core.data import DataConfig
    from dynloss_core.models import ModelConfig

__all__ = ["check"]

_FAILED = 1
_NEED_NOT_HOLD = {  # torch sums batch statistics of (N, C) thread by thread
    "the number of threads changes nothing": "its rounding does: keep resources.cpu as it is",
}


@app.command(
    epilog="Examples: `dynloss check nets.py` · `dynloss check nets.py --data fashion_mnist`"
)
def check(
    plugin: Annotated[Path, typer.Argument(metavar="PLUGIN.py", help="A plug-in's file.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Data that its networks get; by default the file's own, else digits.",
        ),
    ] = None,
) -> None:
    """Run the contract tests on a plug-in; say which engines take it, and why others do not.

    Every network and data set is tried with its default values. Exit code 1 if a test fails.
    """
    if importlib.util.find_spec("pytest") is None:
        raise ConfigError("", "the contracts need pytest", "pip install 'dynloss[testing]'")
    from dynloss_core.data import DATA_SETS
    from dynloss_core.models import MODELS
    from dynloss_core.plugins import classes_of, read_plugin

    classes = classes_of(read_plugin(plugin))
    sets = {n: build(cls, {}) for n, cls in classes.items() if DATA_SETS.get(n) is cls}
    networks = {n: build(cls, {}) for n, cls in classes.items() if MODELS.get(n) is cls}
    chosen = data or next(iter(sets), "digits")
    if chosen not in DATA_SETS:
        known = ", ".join(DATA_SETS)
        raise ConfigError("--data", f"no data set {chosen!r}", f"choose one of: {known}")
    failures = 0
    for name, each in sets.items():
        console.print(f"data set {name}", style="bold")
        failures += _show(_kept_by_data(each))
    for name, model in networks.items():
        console.print(f"network {name}, on {chosen}", style="bold")
        failures += _show(_engines(model, DATA_SETS[chosen]()))
        failures += _show(_kept_by_model(model, DATA_SETS[chosen]()))
    if failures:
        raise typer.Exit(_FAILED)


Line = tuple[str, bool | None, str]
"""What was tried; whether it holds, None if it does not and need not; why not."""


def _show(lines: Iterator[Line]) -> int:
    """Print lines, and count those that failed."""
    failed = 0
    for what, good, why in lines:
        failed += good is False
        said = "yes" if good else f"no: {why}" if good is None else f"FAILED: {why}"
        console.print(f"  {what:<58} {said}")
    return failed


def _engines(model: ModelConfig, data: DataConfig) -> Iterator[Line]:
    """Which engines and trackers take a network, the chosen one named."""
    from dynloss_core.testing.cases import short_problem
    from dynloss_core.training import ENGINES, choose_engine

    problem = short_problem(model, data)
    problem.traits  # noqa: B018  refuses a network that does not fit the data
    chosen = choose_engine(problem)
    for name, engines in ENGINES.items():
        refusals = [engine.refusal(problem) for engine in engines]
        takes = None in refusals
        used = ", which trains it" if takes and chosen in engines else ""
        yield f"engine {name}{used}", takes or None, next(filter(None, refusals), "")


def _kept_by_model(model: ModelConfig, data: DataConfig) -> Iterator[Line]:
    from dynloss_core.testing import ModelContract

    yield from _kept(type("Checked", (ModelContract,), {"model": model, "data": data})())


def _kept_by_data(data: DataConfig) -> Iterator[Line]:
    from dynloss_core.testing import DataSetContract

    yield from _kept(type("Checked", (DataSetContract,), {"data": data})())


def _kept(contract: Any) -> Iterator[Line]:
    """Each test of a contract."""
    import pytest
    import torch

    from dynloss_core.landscape import LandscapeError

    for name, test in inspect.getmembers(contract, inspect.ismethod):
        if not name.startswith("test_"):
            continue
        what = name.removeprefix("test_").replace("_", " ")
        threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory(prefix="dynloss-check-") as folder:
            given = (
                {"tmp_path": Path(folder)}
                if "tmp_path" in inspect.signature(test).parameters
                else {}
            )
            try:
                test(**given)
            except LandscapeError as error:  # its curvature need not be measurable
                yield what, None, reason_of(error)
            except pytest.skip.Exception as error:
                yield what, None, str(error)
            except Exception as error:
                why = f"{type(error).__name__}: {reason_of(error)}"
                allowed = _NEED_NOT_HOLD.get(what)
                yield what, False if allowed is None else None, allowed or why
            else:
                yield what, True, ""
            finally:
                torch.set_num_threads(threads)
