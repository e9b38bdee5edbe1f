"""Studies from Python: what the commands do, as functions that return objects.

>>> import studies
>>> study = studies.load("quickstart").with_(searches=1, trials_per_arm=6)
>>> study.members()
164
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from dynloss_core.config import ConfigError
from dynloss_core.data import use_data_folder
from studies.analysis.user_analyses import AnalysisFunction
from studies.definition.data_sets import ensure_data
from studies.definition.options import BackendName
from studies.definition.plugin_files import listed
from studies.definition.study import Study
from studies.definition.study_files import load_study, study_from_mapping
from studies.messages import DEFAULT_OUT
from studies.out_folder import out_folder
from studies.plain_script.write_export import export_winner
from studies.report.returned_result import StudyResult
from studies.report.study_results import write_results
from studies.runner.run_study import RunResult, confirm_study, run_study
from studies.runner.until_decided import confirm_until_decided
from studies.storage.mirror import put_results
from studies.storage.recorded_study import recorded_study
from studies.storage.recorded_winner import recorded_winner
from studies.storage.status import study_status
from studies.storage.status_file import StudyStatus
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

__all__ = ["analyse", "confirm", "export", "load", "run", "status", "stop"]

StudyLike = Study | StudyResult | str | PathLike[str]
"""A study that was run: its definition, its result, its name, its file or its folder."""


def load(
    study: str | PathLike[str] | Mapping[str, Any],
    *,
    profile: str | None = None,
    plugins: Sequence[str | PathLike[str]] = (),
) -> Study:
    """Load a study.

    Args:
        study: the name of one in the library, the path of a file, or a mapping like a file's.
        profile: a variant that the file defines.
        plugins: Python files of your own networks and data sets.

    Raises:
        ConfigError: naming the file, the key and the remedy.
    """
    if isinstance(study, Mapping):
        if profile is not None:
            raise ConfigError("profile", "given with a mapping", "give a file that has profiles")
        files = [str(Path(plugin).absolute()) for plugin in plugins]
        own = [*files, *listed(study.get("plugins") or [], "")]
        return study_from_mapping({**study, **({"plugins": own} if own else {})})
    return load_study(Path(study), (), profile, [Path(plugin) for plugin in plugins])


def run(
    study: Study | str | PathLike[str],
    out: str | PathLike[str] = DEFAULT_OUT,
    *,
    backend: BackendName | None = None,
    address: str | None = None,
    extend: int | None = None,
    extend_searches: int | None = None,
    reuse: bool = True,
    code_changed: bool = False,
    data_dir: str | PathLike[str] | None = None,
    download: bool = False,
) -> StudyResult:
    """Run a study to its verdict, or what is left of it: a cell may be run again.

    Args:
        study: its definition, its name in the library, or its file.
        out: the output folder, or `s3://bucket/x`; each study has a folder in it.
        backend: what trains; by default what the study says.
        address: the address of a Ray cluster.
        extend: number of trials to add to each arm of a finished study.
        extend_searches: number of searches to add to a finished study.
        reuse: whether to reuse networks that studies in the output folder trained.
        code_changed: whether to continue although the code or versions have changed.
        data_dir: the folder of image data to search first.
        download: whether to download a data set that is missing.

    Raises:
        ConfigError: before anything has started, if the study cannot be run.
    """
    use_data_folder(None if data_dir is None else Path(data_dir))
    definition = study if isinstance(study, Study) else load(study)
    if backend is not None:
        definition = definition.with_(backend=backend)
    ensure_data(definition.data, None if data_dir is None else Path(data_dir), download=download)
    folder = out_folder(out)
    outcome = run_study(
        definition,
        folder,
        address=address,
        resume=StudyFolder.of(definition, folder).exists(),
        more=extend,
        more_searches=extend_searches,
        reuse=reuse,
        code_changed=code_changed,
    )
    return _result(outcome)


def confirm(
    study: StudyLike,
    out: str | PathLike[str] = DEFAULT_OUT,
    *,
    seeds: int | None = None,
    until_decided: bool = False,
    at_most: int = 5,
    backend: BackendName | None = None,
    address: str | None = None,
    code_changed: bool = False,
    data_dir: str | PathLike[str] | None = None,
) -> StudyResult:
    """Rerun the winners of a finished search on fresh seeds.

    Args:
        study: a study that was run.
        out: the output folder.
        seeds: number of seeds; None leaves it to the power analysis.
        until_decided: whether to look again until no verdict is undecided.
        at_most: most looks in all, those of earlier calls included, with `until_decided`.
        backend: what trains; by default what the study says.
        address: the address of a Ray cluster.
        code_changed: as for `run`.
        data_dir: as for `run`.

    Raises:
        ConfigError: if the search is not finished or has no winner.
    """
    use_data_folder(None if data_dir is None else Path(data_dir))
    look = partial(
        confirm_until_decided if until_decided else confirm_study,
        _folder(study, out),
        seeds=seeds,
        backend=backend,
        address=address,
        code_changed=code_changed,
    )
    return _result(look(at_most=at_most) if until_decided else look())


def analyse(
    study: StudyLike,
    out: str | PathLike[str] = DEFAULT_OUT,
    *,
    analyses: Mapping[str, AnalysisFunction] | None = None,
) -> StudyResult:
    """Analyse a study from its tables, finished or not, and train nothing.

    Args:
        study: a study that was run.
        out: the output folder.
        analyses: functions of your own by name, from the study's tables to cards, which its report
            then has too (see `studies.analysis.user_analyses`).

    Raises:
        ConfigError: if there is no such study, or a table is damaged.
    """
    stored = StoredStudy.read(_folder(study, out))
    results = write_results(stored, own=analyses)
    put_results(stored.folder)
    return StudyResult(stored, results, stored.folder.parts.failures())


def export(
    study: StudyLike,
    out: str | PathLike[str] = DEFAULT_OUT,
    *,
    arm: str | None = None,
    search: int = 1,
    seed: int | None = None,
    settings: Sequence[str] = (),
    into: str | PathLike[str] = ".",
) -> Path:
    """Write a study's winner as a script that needs torch alone, and a file of tensors beside it.

    Args:
        study: a study that was run.
        out: the output folder.
        arm: one of its arms; by default the first that is not the reference.
        search: the number of the search that chose the winner, from 1.
        seed: the seed; by default the first fresh one of the winner.
        settings: `model.width=50`, where the study has a winner at each of several.
        into: the folder to write to.

    Returns:
        The path of the script.

    Raises:
        ConfigError: if there is no such winner, or no plain script can train it.
    """
    stored = StoredStudy.read(_folder(study, out))
    winner = recorded_winner(stored, arm=arm, search=search, seed=seed, settings=settings)
    return export_winner(winner, Path(into))


def status(study: StudyLike, out: str | PathLike[str] = DEFAULT_OUT) -> StudyStatus:
    """How far a study is, even while it runs; as for `analyse`."""
    return study_status(_folder(study, out))


def stop(study: StudyLike, out: str | PathLike[str] = DEFAULT_OUT, *, wait: bool = True) -> bool:
    """End a running study as Ctrl-C would.

    Args:
        study: a study that was run.
        out: the output folder.
        wait: whether to wait until it has ended.

    Returns:
        Whether it was running.
    """
    folder = _folder(study, out)
    if not folder.is_locked():
        return False
    folder.ask_to_stop()
    while wait and folder.is_locked():
        time.sleep(0.5)
    return True


def _folder(study: StudyLike, out: str | PathLike[str]) -> StudyFolder:
    if isinstance(study, StudyResult):
        return study.stored.folder
    if not isinstance(study, Study):
        return recorded_study(str(study), out_folder(out))
    folder = StudyFolder.of(study, out_folder(out))
    if not folder.exists():
        raise ConfigError("", "holds no study", "run it first", str(folder.path))
    return folder


def _result(outcome: RunResult) -> StudyResult:
    return StudyResult(
        StoredStudy.read(outcome.folder),
        outcome.results,
        outcome.failures,
        outcome.unreachable,
    )
