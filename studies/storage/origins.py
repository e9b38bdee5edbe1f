"""The origins of a study's networks: kept in its folder, and compared before more are trained.

A study whose code or versions changed midway has networks of several origins, which must not be
compared as if they were of one. So it continues only when told to, and its results say so.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks.code_origin import Origin, current_origin
from studies.blocks.provenance import provenance
from studies.storage.sealed_files import read_json, write_json
from studies.storage.stored_plan import plan_of
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

__all__ = ["record_origin", "origins_in", "origins_in_words", "origins_of", "refuse_other_code"]

_MAX_NAMED_CHANGES = 6


def origins_of(folder: StudyFolder) -> dict[str, dict[str, Any]]:
    """The origins of a study's networks by digest, in the order of their first use: the files and
    versions of an `Origin`, with the commit and the date."""
    if not folder.origins.exists():
        return {}
    remedy = "restore it, or delete it and continue with --code-changed"
    known: dict[str, dict[str, Any]] = read_json(folder.origins, remedy)
    return known


def origins_in(members: pd.DataFrame, folder: StudyFolder) -> list[dict[str, Any]]:
    """The origins of the networks in a members table, with how many each has and what is known of
    it. Networks that a version without origins trained count as `unknown`."""
    if members.empty:
        return []
    column = members[keys.ORIGIN] if keys.ORIGIN in members else pd.Series(None, members.index)
    counts = column.astype(object).where(column.notna(), "unknown").value_counts(sort=False)
    known = origins_of(folder)
    return [
        {"origin": str(name), "networks": int(number), **_in_short(known.get(str(name), {}))}
        for name, number in counts.items()
    ]


def origins_in_words(members: pd.DataFrame, folder: StudyFolder) -> str:
    """The same in one readable line: `3e172b560316 (commit 0159c02, 40 networks)`."""
    texts = []
    for entry in origins_in(members, folder):
        commit = f"commit {entry['commit']}, " if "commit" in entry else ""
        texts.append(f"{entry['origin']} ({commit}{entry['networks']} networks)")
    return "; ".join(texts) or "none"


def _in_short(origin: dict[str, Any]) -> dict[str, Any]:
    """An origin without the digests of its files, which its own digest covers."""
    return {name: value for name, value in origin.items() if name != "files"}


def record_origin(folder: StudyFolder) -> None:
    """Record the origin of what is trained from now on."""
    known, now = origins_of(folder), current_origin()
    if now.digest not in known:
        tags = provenance()
        since = {name: tags[name] for name in ("commit", "date") if name in tags}
        write_json(folder.origins, {**known, now.digest: {**since, **asdict(now)}})


def refuse_other_code(stored: StoredStudy, *, trains: bool) -> None:
    """Refuse to continue a study that was trained with other code or versions.

    Args:
        stored: the study.
        trains: whether it is certain that something is left to train; if not, the plan is asked.

    Raises:
        ConfigError: naming what differs.
    """
    folder = stored.folder
    known, now = origins_of(folder), current_origin()
    if now.digest in known or not (known or folder.parts.files("members")):
        return
    if not known and {
        entry["origin"] for entry in origins_in(folder.parts.gather("members"), folder)
    } == {now.digest}:
        return  # only the file with the details is lost
    if not trains and plan_of(stored).is_complete():
        return
    if known:
        last = list(known.values())[-1]
        changed = Origin(last["files"], last["versions"]).differences(now)
    else:
        changed = ["its networks do not say which code trained them"]
    if len(changed) > _MAX_NAMED_CHANGES:
        changed = [*changed[:_MAX_NAMED_CHANGES], f"{len(changed) - _MAX_NAMED_CHANGES} more"]
    remedy = "go back to that code, or continue with --code-changed; the results will say so"
    problem = f"was trained with different code: {'; '.join(changed)}"
    raise ConfigError("", problem, remedy, str(folder.path))
