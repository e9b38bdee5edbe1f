"""Study files: found by name or path, read, overridden, and built into a `Study`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynloss_core import keys
from dynloss_core.config import ConfigError, build
from dynloss_core.data import DATA_SETS
from dynloss_core.own_command import own_command
from dynloss_core.plugins import read_plugin
from search_spaces import from_mapping, load
from search_spaces.documents import find_document, locating, parse_document, read_document
from studies.definition.nested_keys import assign, merged
from studies.definition.past_points import points_of, refuse_unfit
from studies.definition.plugin_files import listed, with_plugins
from studies.definition.study import Study

__all__ = ["LIBRARY", "find_study", "load_study", "study_from_mapping"]

LIBRARY = Path(__file__).parents[1] / "library"


def load_study(
    name_or_path: str | Path,
    overrides: Iterable[str] = (),
    profile: str | None = None,
    plugins: Sequence[Path] = (),
) -> Study:
    """Load a study from the library by name, or from a YAML file by path.

    Args:
        name_or_path: `quickstart`, or a path to a file.
        overrides: `key=value` lines that replace entries of the file; keys are dotted paths,
            values are YAML.
        profile: one of the file's `profiles`: entries that replace its own, mapping by mapping. The
            study is then called `<name>_<profile>`.
        plugins: further files of one's own networks and data sets, before those that it names.

    Raises:
        ConfigError: one line with the file, the key, the value and the remedy.
    """
    path = find_study(name_or_path)
    document = _in_profile(read_document(path), profile, str(path))
    if plugins:
        named = listed(document.get("plugins") or [], str(path))
        document["plugins"] = [*map(read_plugin, plugins), *named]
    replaced = []
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError("--set", f"{override!r} is not key=value", "write budget.total=1000")
        if key.strip().startswith("space.") and isinstance(document.get("space"), str):
            document["space"] = {"extends": document["space"]}
        assign(document, key.strip(), parse_document(value, f"--set {key}"))
        replaced.append(key.strip())
    try:
        with locating(path, profile):
            return study_from_mapping(document, source=str(path), folder=path.parent)
    except ConfigError as error:
        for key in replaced:
            if f"{error.key}.".startswith((f"{key}.", f"{key}[")):
                raise ConfigError(error.key, error.problem, error.remedy, "--set") from None
        raise


def _in_profile(document: dict[str, Any], profile: str | None, source: str) -> dict[str, Any]:
    """Apply a profile to a study file's document."""
    profiles = document.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise ConfigError(
            "profiles", "expected mappings by name", "see docs/how-to/write-a-study.md", source
        )
    if profile is None:
        return document
    if profile not in profiles:
        known = ", ".join(profiles) or "none"
        raise ConfigError(
            "--profile", f"{profile!r} is not in this file", f"it has: {known}", source
        )
    changes = profiles[profile]
    for key in ("data", "model"):  # one of another name is another one
        before, after = document.get(key), changes.get(key)
        if isinstance(before, dict) and isinstance(after, dict) and "name" in after:
            document[key] = before if after["name"] == before.get("name") else {}
    return {**merged(document, changes), "name": f"{document.get('name')}_{profile}"}


def study_from_mapping(
    document: dict[str, Any],
    *,
    source: str = "",
    folder: Path | None = None,
    recorded: bool = False,
) -> Study:
    """Build a study from a plain mapping; raises ConfigError as `load_study` does.

    Args:
        document: the mapping, as in a study's file.
        source: the name that messages give it.
        folder: the folder that paths in it start from.
        recorded: whether it is of a study that was begun: it names no file but those beside it,
            whose text is known.
    """
    document = with_plugins(document, folder or Path(), source, recorded=recorded)
    seen: list[int] = []
    if "points_from" in document and not recorded:
        document, seen = _with_points(document, folder or Path(), source)
    if "data" in document:
        data = _with_absolute_paths(document["data"], folder or Path())
        document = {**document, "data": data}
    space = document.get("space")
    if isinstance(space, str):
        relative = (folder or Path()) / space
        try:
            document = {**document, "space": load(relative if relative.is_file() else space)}
        except ConfigError as error:
            raise error.inside("space" if not error.source else "", source) from None
    elif isinstance(space, Mapping):
        built = from_mapping(space, source=source, folder=folder, key="space")
        document = {**document, "space": built}
    study = build(Study, document, source=source)
    try:
        refuse_unfit(study, seen)
    except ConfigError as error:
        raise error.inside(source=source) from None
    return study


def _with_points(
    document: dict[str, Any], folder: Path, source: str
) -> tuple[dict[str, Any], list[int]]:
    """A document whose `points_from` became points, and the seeds that those studies have seen."""
    given = document["points_from"]
    if document.get("start_points"):
        remedy = "leave one of them out"
        raise ConfigError("points_from", "given beside start_points", remedy, source)
    named = document.get("arms") or (keys.DYNAMICAL, keys.STATIC)
    try:
        points, seen = points_of(given, folder, [str(arm) for arm in named])
    except ConfigError as error:
        raise error.inside(source=source) from None
    rest = {key: value for key, value in document.items() if key != "points_from"}
    return {**rest, "start_points": points}, seen


def _with_absolute_paths(data: Any, folder: Path) -> Any:
    """The section of a data set, with the paths of its files made absolute."""
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        return data
    keys = getattr(DATA_SETS.get(data["name"]), "paths", ())
    given = {key: data[key] for key in keys if isinstance(data.get(key), str) and data[key]}
    whole = {key: os.path.normpath((folder / path).absolute()) for key, path in given.items()}
    return {**data, **whole}


def find_study(name_or_path: str | Path) -> Path:
    """The file of a study: the library's if it has one of that name, else the path itself."""
    return find_document("study", name_or_path, LIBRARY, own_command("list"))
