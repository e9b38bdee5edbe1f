"""The code that trained a network: what it does counts, how it is written does not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import dynloss_core
from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks.code_origin import Origin, current_origin, syntax_digest
from studies.blocks.provenance import version_of
from studies.report.study_results import write_results
from studies.storage.origins import origins_of, record_origin, refuse_other_code
from studies.storage.stored_study import StoredStudy
from tests.studies.sessions import begun_folder, finish, session_of, train_next
from tests.studies.tiny import tiny_study

SOURCE = b'''
"""A module."""
from math import pi

pytestmark = pytest.mark.usefixtures("undrawn")

class Loss:
    """A class."""
    weight: float = 1.0
    """In units of one."""

    def value(self, x, *, scale=2):
        """A method."""
        return x * scale + pi  # a comment
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"# a comment", b"# another"),
        (b'"""A module."""\n', b""),
        (b"A class", b"Another"),
        (b'    """In units of one."""\n', b""),
        (b'        """A method."""\n', b""),
        (b"x * scale + pi", b"(x * scale) + pi"),
        (b"\n\n", b"\n\n\n\n"),
        (b"scale=2", b"scale = 0x2"),
    ],
)
def test_how_it_is_written_does_not_count(before: bytes, after: bytes) -> None:
    changed = SOURCE.replace(before, after, 1)
    assert changed != SOURCE
    assert syntax_digest(changed) == syntax_digest(SOURCE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"scale=2", b"scale=3"),
        (b"scale=2", b"scale=2.0"),
        (b"scale=2", b"scale=True"),
        (b"*, scale", b"scale"),
        (b"x * scale + pi", b"x * (scale + pi)"),
        (b"+ pi", b"- pi"),
        (b"import pi", b"import e as pi"),
        (b"weight", b"width"),
        (b"return x", b"yield x"),
        (b'"""A method."""', b"b'A method.'; x += 1"),
        (b"class Loss:", b"class Loss(object):"),
    ],
)
def test_what_it_does_counts(before: bytes, after: bytes) -> None:
    changed = SOURCE.replace(before, after, 1)
    assert changed != SOURCE
    assert syntax_digest(changed) != syntax_digest(SOURCE)


def test_an_edited_loss_is_another_origin(tmp_path: Path) -> None:
    """A copy of the package, its loss edited, in a process of its own."""
    source = Path(dynloss_core.__file__).parents[1]
    for package in ("dynloss_core", "search_spaces", "studies"):
        shutil.copytree(
            source / package, tmp_path / package, ignore=shutil.ignore_patterns("results", "__py*")
        )

    def digest() -> str:
        command = [
            sys.executable,
            "-c",
            "from studies.blocks.code_origin import current_origin; print(current_origin().digest)",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    losses = tmp_path / "dynloss_core" / "losses" / "weighted.py"
    assert digest() == current_origin().digest
    losses.write_text("# a comment\n" + losses.read_text())
    assert digest() == current_origin().digest
    losses.write_text(losses.read_text().replace("per_sample).mean()", "per_sample).sum()", 1))
    assert digest() != current_origin().digest


def test_a_study_goes_on_with_the_same_code_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study()
    session = session_of(study, tmp_path)
    train_next(session)
    session.delivery.close()
    folder = session.folder
    assert list(origins_of(folder)) == [current_origin().digest]
    refuse_other_code(StoredStudy.read(folder), trains=True)
    now = current_origin()
    other = Origin(
        {**now.files, "dynloss_core/losses/weighted.py": "0" * 12}, {**now.versions, "torch": "9.9"}
    )
    monkeypatch.setattr("studies.storage.origins.current_origin", lambda: other)
    problem = re.escape(f"{folder.path}: was trained with different code: torch ")
    with pytest.raises(
        ConfigError, match=f"{problem}.* 9.9 now; dynloss_core/losses/weighted.py differs"
    ):
        refuse_other_code(StoredStudy.read(folder), trains=False)
    record_origin(folder)  # as after --code-changed
    assert list(origins_of(folder)) == [now.digest, other.digest]
    refuse_other_code(StoredStudy.read(folder), trains=True)


def test_the_version_of_the_suite_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release by itself keeps no study from going on, nor a network from being reused."""
    session = session_of(tiny_study(), tmp_path)
    train_next(session)
    session.delivery.close()
    monkeypatch.setattr(
        "studies.blocks.code_origin.version_of",
        lambda name: "9.9" if name == "dynloss" else version_of(name),
    )
    current_origin.cache_clear()
    refuse_other_code(StoredStudy.read(session.folder), trains=True)
    current_origin.cache_clear()


def test_a_study_that_kept_no_origin_is_told_from_one_that_trained_nothing(tmp_path: Path) -> None:
    study = tiny_study()
    folder = begun_folder(study, tmp_path)
    refuse_other_code(StoredStudy.read(folder), trains=True)
    session = session_of(study, tmp_path)
    train_next(session)
    session.delivery.close()
    folder.origins.unlink()
    refuse_other_code(StoredStudy.read(folder), trains=False)  # its networks still say it
    for path in folder.parts.files("members"):
        pd.read_parquet(path).drop(columns=keys.ORIGIN).to_parquet(path)
    with pytest.raises(ConfigError, match="do not say which code trained them"):
        refuse_other_code(StoredStudy.read(folder), trains=False)


def test_differences_are_named() -> None:
    then = Origin({"a.py": "1", "b.py": "2", "c.py": "3"}, {"torch": "2.14"})
    now = Origin({"a.py": "1", "b.py": "0", "d.py": "4"}, {"torch": "2.15", "numba": "1"})
    assert then.differences(now) == [
        "torch 2.14 then, 2.15 now",
        "numba unknown then, 1 now",
        "b.py differs",
        "c.py is gone",
        "d.py is new",
    ]
    assert then.digest != now.digest


@pytest.mark.slow
def test_every_origin_is_in_summary_report_and_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a warning stands beside a verdict that rests on several."""
    study = tiny_study()
    session = session_of(study, tmp_path)
    for _ in range(2):
        train_next(session)
    session.delivery.close()
    other = Origin({}, {"torch": "9.9"})
    for name in ("blocks.block_run", "storage.origins"):
        monkeypatch.setattr(f"studies.{name}.current_origin", lambda: other)
    session = session_of(study, tmp_path)
    finish(session)
    results = write_results(session.stored)
    summary = json.loads(session.folder.summary.read_text())
    known = {entry["origin"]: entry for entry in summary["origins"]}
    networks = {name: entry["networks"] for name, entry in known.items()}
    assert networks == {current_origin().digest: 8, other.digest: 25}
    assert known[other.digest]["versions"] == {"torch": "9.9"}
    warning = f"trained with 2 states of the code: {', '.join(sorted(known))}"
    assert warning in results.analysis.verdicts[0].warnings[0]
    assert warning in results.analysis.warnings()[0]
    assert f"{other.digest} (" in results.tags()["origin"]
    report = session.folder.report.read_text()
    assert warning in report
    assert f"{other.digest} (" in report
