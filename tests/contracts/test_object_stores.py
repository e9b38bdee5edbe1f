"""What every object store does, on a disk, in memory, on a real S3 server and on one of Google's interface."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from dynloss_core.config import ConfigError
from studies.object_store import LocalDisk, ObjectStore, opened
from tests.gcs_server import needs_gcs, started_gcs
from tests.s3_server import needs_s3, started_s3
from tests.services import free_port


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with started_s3() as address:
        yield address


@pytest.fixture(scope="module")
def googles() -> Iterator[str]:
    with started_gcs() as address:
        yield address


@pytest.fixture(
    params=[
        "disk",
        "memory",
        pytest.param("s3", marks=needs_s3),
        pytest.param("gs", marks=needs_gcs),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "disk":
        return LocalDisk(tmp_path / "objects")
    served = {"s3": "bucket", "gs": "googles"}
    address = (
        request.getfixturevalue(served[request.param]) if request.param in served else "memory:/"
    )
    return opened(f"{address}/{uuid4().hex}")


def test_what_is_written_is_read(store: ObjectStore) -> None:
    store.write("parts/a.parquet", b"one")
    assert store.read("parts/a.parquet") == b"one"
    store.write("parts/a.parquet", b"two")
    assert store.read("parts/a.parquet") == b"two"
    store.write("empty", b"")
    assert store.read("empty") == b""


def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("parts/a.parquet")
    assert not store.exists("parts/a.parquet")
    assert store.list() == {}
    assert store.list("parts/") == {}
    store.delete("parts/a.parquet")


def test_it_is_listed_by_prefix_and_deleted(store: ObjectStore) -> None:
    names = {"study.yaml", "parts/a.parquet", "parts/b.parquet", "partsbeside"}
    for name in names:
        store.write(name, name.encode())
    assert set(store.list()) == names
    assert set(store.list("parts/")) == {"parts/a.parquet", "parts/b.parquet"}
    assert set(store.list("parts")) == names - {"study.yaml"}
    assert store.exists("parts/a.parquet")
    assert not store.exists("parts")
    store.delete("parts/a.parquet")
    assert set(store.list("parts/")) == {"parts/b.parquet"}


def test_a_version_changes_with_the_content_alone(store: ObjectStore) -> None:
    store.write("a", b"1")
    store.write("b", b"2")
    before = store.list()
    assert store.list() == before
    store.write("b", b"3")
    after = store.list()
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]


def test_of_many_that_create_an_object_one_does(store: ObjectStore) -> None:
    def creates(writer: int) -> bool:
        try:
            store.create("lease", str(writer).encode())
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(creates, range(8)))
    assert created.count(True) == 1
    assert store.read("lease") == str(created.index(True)).encode()


def test_a_worker_gets_it_pickled(store: ObjectStore) -> None:
    store.write("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"


@needs_s3
def test_names_that_would_leave_a_folder_are_not_listed(bucket: str) -> None:
    import s3fs

    store = opened(f"{bucket}/hostile")
    s3fs.S3FileSystem().pipe_file("bucket/hostile/../../../etc/passwd", b"")
    store.write("study.yaml", b"")
    assert set(store.list()) == {"study.yaml"}


@needs_s3
def test_every_error_is_of_the_system(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="bucket does not exist"):
        opened("s3://no-such-bucket/x").write("a", b"")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(OSError, match="credentials"):
        opened(f"{bucket}/y").write("a", b"")
    s3fs.S3FileSystem.clear_instance_cache()


@needs_gcs
def test_googles_errors_too_without_what_gcsfs_logs_of_them(
    googles: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gcsfs

    with pytest.raises(FileNotFoundError):
        opened("gs://absent/x").write("a", b"")
    gcsfs.GCSFileSystem.clear_instance_cache()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", at_once)
    with pytest.raises(OSError, match="onnect"):
        opened(f"{googles}/y").write("a", b"")
    gcsfs.GCSFileSystem.clear_instance_cache()
    assert not [each for each in caplog.records if each.name.startswith("gcsfs")]


async def at_once(seconds: float) -> None:
    """Retries that do not wait."""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://host/x", "is not a store; use s3://"),
        ("s3://", "has no bucket"),
        ("s3://key:secret@bucket/x", "names a user; give s3://BUCKET"),
    ],
)
def test_what_is_no_store_is_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        opened(address)
    assert "secret" not in str(refused.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.definition.optional_packages.is_installed", lambda package: False)
    with pytest.raises(ConfigError, match=r"pip install 'dynloss\[s3\]'"):
        opened("s3://bucket/x")
    with pytest.raises(ConfigError, match=r"pip install 'dynloss\[gcs\]'"):
        opened("gs://bucket/x")
