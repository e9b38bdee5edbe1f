"""A study that an object store keeps: run, looked at and continued from working copies."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest

from dynloss_core.config import ConfigError
from studies.object_store import LocalDisk, ObjectStore, opened
from studies.out_folder import WORK_FOLDER, out_folder, shown
from studies.storage.lease import Lease
from studies.storage.mirror import kept_in_store, refresh
from studies.storage.study_folder import StudyFolder
from tests.s3_server import needs_s3, started_s3
from tests.studies.commands import dynloss_here
from tests.studies.tables import comparable
from tests.studies.tiny import MAP, tiny_file

pytestmark = pytest.mark.usefixtures("undrawn")

Machine = Callable[[], None]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with started_s3() as address:
        yield address


@pytest.fixture(params=["memory", pytest.param("s3", marks=needs_s3)])
def out(request: pytest.FixtureRequest) -> str:
    address = "memory:/" if request.param == "memory" else request.getfixturevalue("bucket")
    return f"{address}/{uuid4().hex}"


@pytest.fixture
def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """What comes next has a disk of its own."""

    def move() -> None:
        monkeypatch.setenv(WORK_FOLDER, str(tmp_path / "machines" / uuid4().hex[:8]))

    move()
    return move


@pytest.fixture
def tiny_map(tmp_path: Path) -> Path:
    return tiny_file(tmp_path, **MAP, grid={"period": 2, "amplitude": 2, "learning_rate": 1})


def run(study: Path, out: str, *options: str) -> str:
    done = dynloss_here("run", study, "--out", out, "--backend", "inline", *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def members(out: str) -> pd.DataFrame:
    return comparable(pd.read_parquet(out_folder(out) / "tiny" / "tables" / "members.parquet"))


def test_it_is_looked_at_from_everywhere(
    out: str, another_machine: Machine, tiny_map: Path
) -> None:
    run(tiny_map, out)
    another_machine()
    status = dynloss_here("status", "tiny", "--out", out)
    assert "100% of its networks trained, no driver is running" in status.stdout
    listed = dynloss_here("list", "--out", out).stdout
    assert f"{out}" in listed
    assert "finished" in listed
    analysed = dynloss_here("analyse", "tiny", "--out", out)
    assert f"report     {out}/tiny/report.html" in analysed.stdout
    names = set(opened(f"{out}/tiny").list())
    assert {"study.yaml", "begun.json", "report.html", "tables/members.parquet"} <= names
    assert not [name for name in names if name.startswith(("optuna", "checkpoints", ".lock"))]


def test_it_goes_on_elsewhere_with_what_is_there(
    out: str, another_machine: Machine, tiny_map: Path
) -> None:
    run(tiny_map, out)
    whole, store = members(out), opened(f"{out}/tiny")
    before = store.list("parts/")
    lost = sorted(name for name in before if name.endswith(".members.parquet"))[1::2]
    for name in (*lost, *store.list("tables/"), "summary.json", "report.html"):
        store.delete(name)
    another_machine()
    run(tiny_map, out, "--resume")
    pd.testing.assert_frame_equal(members(out), whole)
    after = store.list("parts/")
    assert after.keys() == before.keys()
    trained_again = {name for name in after if after[name] != before[name]}
    blocks = {name.split(".")[0] for name in lost}
    assert {name.split(".")[0] for name in trained_again} == blocks


def test_a_copy_that_another_machine_has_left_behind_follows_it(
    out: str, another_machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_file(tmp_path, trials_per_arm=4, confirm_seeds=2)
    run(study, out)
    first = out_folder(out)
    another_machine()
    run(study, out, "--extend", "2")
    extended = members(out)
    monkeypatch.setenv(WORK_FOLDER, str(first.parent))
    assert out_folder(out) == first
    owner = StudyFolder(first / "tiny").copy_owner()
    assert owner is not None
    with Lease(opened(f"{out}/tiny"), owner):
        pass  # a driver that was killed here before it had what is there
    dynloss_here("analyse", "tiny", "--out", out)
    pd.testing.assert_frame_equal(members(out), extended)


def test_a_second_driver_is_refused(out: str, another_machine: Machine, tiny_map: Path) -> None:
    with Lease(opened(f"{out}/tiny"), "another copy"):
        refused = dynloss_here("run", tiny_map, "--out", out, "--backend", "inline")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert line.startswith(f"dynloss: {out}/tiny: another process is running this study on ")


def test_it_can_be_stopped_and_watched_from_elsewhere(
    out: str, another_machine: Machine, tiny_map: Path
) -> None:
    run(tiny_map, out)
    store = opened(f"{out}/tiny")
    another_machine()
    with Lease(store, "another copy"):
        assert "a driver is running" in dynloss_here("status", "tiny", "--out", out).stdout
        assert "running" in dynloss_here("list", "--out", out).stdout
        asked = dynloss_here("stop", "tiny", "--out", out, "--no-wait")
        assert "asked to stop" in asked.stdout
    assert store.exists("stop")
    run(tiny_map, out, "--resume")
    assert not store.exists("stop")


def test_who_has_lost_the_lease_writes_no_more(
    out: str, another_machine: Machine, monkeypatch: pytest.MonkeyPatch, tiny_map: Path
) -> None:
    run(tiny_map, out)
    folder, store = StudyFolder(out_folder(out) / "tiny"), opened(f"{out}/tiny")
    monkeypatch.setattr("studies.storage.mirror._SECONDS_BETWEEN", 3600)
    monkeypatch.setattr("studies.storage.lease._SECONDS", 0.0)  # its driver is taken for dead
    before = store.list("parts/")

    def drive_on() -> None:
        with folder.locked():
            with Lease(store, "another copy"):
                pass
            (folder.path / "parts" / "late.members.parquet").write_bytes(b"")

    with pytest.raises(ConfigError, match=r"tiny: a driver on .* has taken over this study"):
        drive_on()
    assert store.list("parts/") == before
    run(tiny_map, out, "--resume")
    assert not (folder.path / "parts" / "late.members.parquet").exists()


def test_a_study_that_did_not_begin_leaves_nothing(
    out: str, another_machine: Machine, tiny_map: Path
) -> None:
    another = ["--set", "storage.tracking_uri=ftp://nowhere"]
    refused = dynloss_here("run", tiny_map, "--out", out, "--backend", "inline", *another)
    assert refused.returncode == 2
    assert opened(out).list() == {}


def test_a_store_that_lost_the_study_does_not_take_the_copy_with_it(
    out: str, another_machine: Machine, tiny_map: Path
) -> None:
    run(tiny_map, out)
    store = opened(f"{out}/tiny")
    for name in store.list():
        store.delete(name)
    refused = dynloss_here("status", "tiny", "--out", out)
    assert "no longer holds this study; copy " in refused.stderr
    assert len(members(out)) > 0


@needs_s3
def test_what_cannot_be_used_is_said_in_a_line(
    bucket: str, another_machine: Machine, tiny_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    def said(*words: object) -> str:
        refused = dynloss_here(*words)
        assert refused.returncode == 2
        (line,) = refused.stderr.strip().splitlines()
        return line

    absent = said("run", tiny_map, "--out", "s3://absent/x", "--backend", "inline")
    assert "s3://absent/x/tiny: cannot be used: The specified bucket does not exist" in absent
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    assert "Unable to locate credentials; give " in said("list", "--out", bucket)
    s3fs.S3FileSystem.clear_instance_cache()
    assert "is not a store" in said("status", "tiny", "--out", "http://host/x")


class Flaky:
    """A store that is unreachable now and then."""

    def __init__(self, store: ObjectStore) -> None:
        self.store, self.fails = store, 0

    def __getattr__(self, name: str) -> object:
        def work(*arguments: object) -> object:
            if self.fails:
                self.fails -= 1
                raise OSError("no network")
            return getattr(self.store, name)(*arguments)

        return work


def test_what_could_not_be_put_is_put_later_or_named(
    tmp_path: Path, another_machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = LocalDisk(tmp_path / "store")
    store = Flaky(disk)
    monkeypatch.setattr(StudyFolder, "store", store)
    folder = StudyFolder(out_folder("memory://flaky") / "tiny")
    folder.path.mkdir(parents=True)

    def drive(name: str, fails: int) -> None:
        with kept_in_store(folder):
            (folder.path / name).write_text("{}")
            store.fails = fails

    drive("study.yaml", fails=2)
    assert disk.read("study.yaml") == b"{}"
    with pytest.raises(ConfigError, match=r"cannot be written: no network; continue here"):
        drive("summary.json", fails=100)
    store.fails = 0
    with kept_in_store(folder):
        pass
    assert disk.read("summary.json") == b"{}"


def test_a_folder_is_as_it_was(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "tiny")
    refresh(folder)
    with kept_in_store(folder):
        pass
    assert not folder.path.exists()
    assert shown(tmp_path) == str(tmp_path)
    shutil.rmtree(tmp_path)
    assert out_folder(tmp_path) == tmp_path
