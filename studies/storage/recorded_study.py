"""Studies that were run, found by name, file or folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dynloss_core.config import ConfigError
from studies.messages import repeat_command
from studies.out_folder import shown, store_address
from studies.storage.study_paths import StudyPaths

if TYPE_CHECKING:
    from studies.storage.study_folder import StudyFolder

__all__ = ["name_of_study", "recorded_paths", "recorded_study"]


def recorded_study(study: str, out: Path) -> StudyFolder:
    """The folder of a study that was run, given its name, its file or the folder itself.

    Raises:
        ConfigError: if there is none.
    """
    from studies.storage.study_folder import StudyFolder

    return StudyFolder(recorded_paths(study, out).path)


def recorded_paths(study: str, out: Path) -> StudyPaths:
    """As `recorded_study`, for whoever reads no table: it imports no more than that takes."""
    if StudyPaths(Path(study)).exists():
        return StudyPaths(Path(study))
    paths = _up_to_date(out / study)
    if paths.exists():
        return paths
    from search_spaces.documents import meant
    from studies.definition.study_files import LIBRARY, find_study  # and with it torch

    try:
        find_study(study)
    except ConfigError as error:
        begun = (path.parent.name for path in out.glob("*/study.yaml"))
        shipped = (path.stem for path in LIBRARY.glob("*.yaml"))
        lists = repeat_command(["list"], out)
        remedy = f"{meant(study, [*begun, *shipped])}see `{lists}` for those that were run"
        raise ConfigError("", f"no study {study!r} in {shown(out)}", remedy) from error
    paths = _up_to_date(out / _name_in_file(study))
    if not paths.exists():
        remedy = (
            f"run it first ({repeat_command(['run', study], out)}), or say where it is with --out"
        )
        raise ConfigError("", "holds no study", remedy, shown(paths.path))
    return paths


def _up_to_date(path: Path) -> StudyPaths:
    """The files of a study; of one in an object store, as they are there now."""
    paths = StudyPaths(path)
    if store_address(path.parent) is not None:
        from studies.storage.mirror import refresh

        refresh(paths)
    return paths


def name_of_study(study: str) -> str:
    """The name of a study that was run elsewhere, given its name, file or a copy of its folder."""
    if (Path(study) / "study.yaml").is_file():
        return Path(study).resolve().name
    with suppress(ConfigError):  # otherwise it is a name that only the other machine knows
        return _name_in_file(study)
    return study


def _name_in_file(study: str) -> str:
    """The name in a study's file, which may be one of the library's."""
    from search_spaces.documents import read_document
    from studies.definition.study_files import find_study

    return str(read_document(find_study(study)).get("name", study))
