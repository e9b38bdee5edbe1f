"""The command `dynloss check`: what a plug-in may use, and whether it keeps the contracts."""

from __future__ import annotations

import importlib.util
import inspect
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynloss_core.config import ConfigError, build, reason_of
from dynloss_core.own_command import own_command
from studies.cli.app import app
from studies.cli.examples import examples
from studies.messages import console, paragraph

if TYPE_CHECKING:
    from dynloss_core.data import DataConfig
    from dynloss_core.models import ModelConfig

__all__ = ["check"]

_FAILED = 1
_LABELS = "a study checks its labels before it trains"
_NEED_NOT_HOLD = {  # torch sums batch statistics of (N, C) thread by thread
    "the number of threads changes nothing": "last digits may change; keep resources.cpu as it is",
    "a label that is no class is one clear error": _LABELS,
    "labels of any integer type give the same": _LABELS,
    "what is no class index is refused by its type": _LABELS,
}


@app.command(
    epilog=examples(
        "`dynloss check nets.py`",
        "`dynloss check nets.py --data fashion_mnist`",
        "`dynloss check nets.py --data photos/`",
        "`dynloss check nets.py --data '{name: table, path: own.csv, target: kind}'`",
    )
)
def check(
    plugin: Annotated[Path, typer.Argument(metavar="PLUGIN.py", help="A plug-in's file.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME|FOLDER|MAPPING",
            help="Data that its networks get: a name, a folder of images, or what a study writes "
            "under `data`; by default the file's own, else digits.",
        ),
    ] = None,
) -> None:
    """Run the contract tests on a plug-in; say which engines take it, and why others do not.

    Every network and data set is tried with its default values, every loss and shape as it is. Exit
    code 1 if a test fails.
    """
    if importlib.util.find_spec("pytest") is None:
        raise ConfigError("", "the contracts need pytest", "pip install 'dynloss[testing]'")
    from dynloss_core.plugins import definitions_in, read_plugin

    if plugin.suffix in {".yaml", ".yml"}:
        trial = own_command("run", str(plugin), "--dry-run")
        remedy = f"give a Python file, or try the study: {trial}"
        raise ConfigError("", "is not a plug-in", remedy, str(plugin))
    parts = definitions_in(read_plugin(plugin))
    sets = {name: build(cls, {}) for kind, name, cls in parts if kind == "data set"}
    networks = {name: build(cls, {}) for kind, name, cls in parts if kind == "network"}
    chosen = _data(data or next(iter(sets), "digits"))
    failures = 0
    for name, own in sets.items():
        console.print(f"data set {name}", style="bold")
        failures += _show(_kept_by_data(own))
    for name, model in networks.items():
        console.print(f"network {name}, on {chosen.name}", style="bold")
        failures += _show(_engines(model, chosen))
        failures += _show(_kept_by_model(model, chosen))
    for kind, name, value in parts:
        if kind == "loss":
            console.print(f"loss {name}", style="bold")
            failures += _show(_forms(name))
            failures += _show(_kept_by_loss(value))
        elif kind == "shape":
            console.print(f"shape {name}", style="bold")
            failures += _show(_kept_by_shape(name))
        elif kind == "analysis":
            console.print(f"analysis {name}", style="bold")
            command = own_command("analyse", "STUDY", "--analysis", str(plugin))
            look = f"it looks at a study: {command}"
            failures += _show(iter([("engines, trackers, contracts", None, look)]))
    if failures:
        raise typer.Exit(_FAILED)


def _data(asked: str) -> DataConfig:
    """A data set by its name, from a folder of images, or as a study writes it."""
    from dynloss_core.data import DATA_SETS, FolderConfig
    from search_spaces.documents import parse_document

    try:
        if asked in DATA_SETS and not hasattr(DATA_SETS[asked], "paths"):
            return DATA_SETS[asked]()
        if asked not in DATA_SETS and Path(asked).is_dir():
            return FolderConfig(path=asked)
        entry = parse_document(asked, "--data")
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and name in DATA_SETS:
            made: DataConfig = build(DATA_SETS[name], entry)
            return made
    except ConfigError as error:
        raise error.inside(source="--data") from None
    known = ", ".join(name for name, cls in DATA_SETS.items() if not hasattr(cls, "paths"))
    remedy = (
        f"write one of: {known}; a folder of images; or {{name: table, path: ..., target: ...}}"
    )
    raise ConfigError("--data", f"no data set {asked!r}", remedy)


_TRIED = 58  # characters of a column
CheckLine = tuple[str, bool | None, str]
"""What was tried; whether it holds, None if it does not and need not; why not, or what follows."""


def _show(lines: Iterator[CheckLine]) -> int:
    """Print lines, and count those that failed."""
    failed = 0
    for what, good, why in lines:
        failed += good is False
        outcome = "yes" if good else "no" if good is None else "FAILED"
        said = f"{outcome}: {why}" if why else outcome
        line = f"  {what:<{_TRIED}} {said}"
        if not console.is_terminal or len(line) <= console.width:
            console.print(line)
        else:
            paragraph(f"{what}:", indent=2)
            paragraph(said, indent=4)
    return failed


def _engines(model: ModelConfig, data: DataConfig) -> Iterator[CheckLine]:
    """Which engines and trackers take a network, the chosen one named."""
    from dynloss_core.testing.cases import short_problem
    from dynloss_core.training import ENGINES, choose_engine

    problem = short_problem(model, data)
    problem.traits  # noqa: B018  refuses a network that does not fit the data
    chosen = choose_engine(problem)
    for name, engines in ENGINES.items():
        refusals = [engine.refusal(problem) for engine in engines]
        takes = None in refusals
        first = refusals.index(None) if takes else 0
        what = f"engine {name} ({engines[first].summary})"
        used = "chosen for it" if chosen in engines else ""
        yield what, takes or None, used if takes else next(filter(None, refusals), "")


def _kept_by_model(model: ModelConfig, data: DataConfig) -> Iterator[CheckLine]:
    from dynloss_core.testing import ModelContract

    yield from _kept(type("Checked", (ModelContract,), {"model": model, "data": data})())


def _kept_by_data(data: DataConfig) -> Iterator[CheckLine]:
    from dynloss_core.testing import DataSetContract

    yield from _kept(type("Checked", (DataSetContract,), {"data": data})())


def _forms(name: str) -> Iterator[CheckLine]:
    """Which forms a loss has, beyond its value: what takes it follows from them."""
    from dynloss_core.losses import refusal_of_form

    for form, what in (
        ("gradient", "engine batched, which needs its gradient"),
        ("kernel", "engine fused, which needs a form for kernels"),
        ("curvature", "the quick tracker, which needs its curvature"),
    ):
        refusal = refusal_of_form(name, form)  # type: ignore[arg-type]  # one of the literals
        yield what, refusal is None or None, refusal or ""


def _kept_by_loss(loss: Any) -> Iterator[CheckLine]:
    from dynloss_core.testing import LossContract

    yield from _kept(type("Checked", (LossContract,), {"loss": loss})())


def _kept_by_shape(shape: str) -> Iterator[CheckLine]:
    from dynloss_core.testing import ShapeContract

    yield from _kept(type("Checked", (ShapeContract,), {"shape": shape})())


def _kept(contract: Any) -> Iterator[CheckLine]:
    """Each test of a contract, with all of its parameters."""
    import torch

    for name, test in inspect.getmembers(contract, inspect.ismethod):
        if not name.startswith("test_"):
            continue
        what = name.removeprefix("test_").replace("_", " ")
        threads = torch.get_num_threads()
        try:
            results = [_tried(test, given) for given in _parameters(test)]
        finally:
            torch.set_num_threads(threads)
        good, why = next((result for result in results if not result[0]), (True, ""))
        if good is False and what in _NEED_NOT_HOLD:
            good, why = None, _NEED_NOT_HOLD[what]
        yield what, good, why


def _parameters(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each run of a test, as its marks give them."""
    given: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            names = [name.strip() for name in str(mark.args[0]).split(",")]
            if not isinstance(mark.args[0], str):
                names = list(mark.args[0])
            rows = [value if len(names) > 1 else (value,) for value in mark.args[1]]
            chosen = [dict(zip(names, row, strict=True)) for row in rows]
            given = [{**one, **other} for one in given for other in chosen]
    yield from given


def _tried(test: Any, given: dict[str, Any]) -> tuple[bool | None, str]:
    """Whether a test holds, None if it need not; and why not."""
    import pytest

    from dynloss_core.landscape import LandscapeError

    wanted = inspect.signature(test).parameters
    with (
        tempfile.TemporaryDirectory(prefix="dynloss-check-") as folder,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        fixtures = {"tmp_path": Path(folder), "monkeypatch": patch}
        given = {**given, **{k: v for k, v in fixtures.items() if k in wanted}}
        try:
            test(**given)
        except LandscapeError as error:  # its curvature need not be measurable
            return None, reason_of(error)
        except pytest.skip.Exception as error:
            return None, str(error)
        except (Exception, pytest.fail.Exception) as error:
            return False, f"{type(error).__name__}: {reason_of(error)}"
    return True, ""
