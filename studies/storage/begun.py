"""What a study was when it began.

`study.yaml` is open to edits, and an edit changes what everything in the folder is taken for. So
the definition and the identity of the study are kept a second time, sealed, and every command
compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dynloss_core.config import ConfigError, show, to_dict
from studies.definition.study import Study
from studies.definition.study_files import study_from_mapping
from studies.storage.sealed_files import read_json, write_json

__all__ = ["Begun", "check_unchanged", "differences"]


@dataclass(frozen=True)
class Begun:
    """A study as it began.

    Args:
        study_id: its identity, by which its runs in MLflow are found again.
        study: its definition, which only an extension changes.
    """

    study_id: str
    study: Study

    @classmethod
    def read(cls, path: Path) -> Begun | None:
        """Read what `write` wrote; None if a version that wrote no such file began the study.

        Raises:
            ConfigError: if the file is damaged.
        """
        if not path.exists():
            return None
        content = read_json(path, "restore it, or delete it to rely on study.yaml alone")
        definition = content["definition"]
        study = study_from_mapping(definition, source=str(path), folder=path.parent, recorded=True)
        return cls(content["study_id"], study)

    def write(self, path: Path) -> None:
        """Write it to a sealed file."""
        content = {"study_id": self.study_id, "study_hash": self.study.hash}
        lasting = replace(self.study, plugins=self.study.essence.plugins)  # analyses may change
        write_json(path, {**content, "definition": to_dict(lasting)})


def check_unchanged(begun: Study, now: Study, source: Path) -> None:
    """Refuse a definition that was edited since the study began, unless no result changes.

    Raises:
        ConfigError: with each key that differs and both of its values.
    """
    if begun.hash == now.hash:
        return
    changed = differences(begun.essence, now.essence, "when the study was begun", "here now")
    remedy = "put it back, or run the changed study under another name"
    raise ConfigError("", "; ".join(changed), remedy, str(source))


def differences(
    before: Study, after: Study, then: str = "there", now: str = "in yours"
) -> list[str]:
    """The dotted keys that differ between two definitions, each with both values.

    Args:
        before: the first definition.
        after: the second definition.
        then: words that follow a value of the first, as in `600 there`.
        now: words that follow a value of the second.
    """

    def inside(old: dict[str, Any], new: dict[str, Any], prefix: str) -> Iterator[str]:
        for key in dict.fromkeys([*old, *new]):
            before, after = old.get(key), new.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                yield from inside(before, after, f"{prefix}{key}.")
            elif before != after and (prefix, key) == ("data.contents.", "sha256"):
                yield "the data have other contents than when the study was begun"
            elif before != after and key == "plugins":
                yield f"{key} is {_files(before)} {then} and {_files(after)} {now}"
            elif before != after:
                yield f"{prefix}{key} is {show(before)} {then} and {show(after)} {now}"

    return list(inside(to_dict(before), to_dict(after), ""))


def _files(plugins: Sequence[Mapping[str, str]] | None) -> str:
    """Plug-ins in words: `nets.py (1f0c9a2b33d4)`."""
    return ", ".join(f"{plugin['file']} ({plugin['digest']})" for plugin in plugins or ()) or "none"
