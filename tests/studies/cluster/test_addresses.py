"""What the address of a cluster means, and that one where no cluster is ends within seconds."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynloss_core.config import ConfigError
from studies.cluster.addresses import has_cluster, resolve_address
from studies.cluster.ray_cluster import joined_cluster
from tests.services import free_port
from tests.studies.commands import dynloss_here


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "RAY_USE_TLS", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


def left_by_ray(folder: Path, address: str) -> Path:
    """The file in which `ray start` leaves its address."""
    file = folder / "ray" / "ray_current_cluster"
    file.parent.mkdir(parents=True)
    file.write_text(address)
    return file


@contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """The address of something that says this to whoever connects; None keeps silent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def serve() -> None:
            line, _ = listening.accept()
            held.append(line)
            line.recv(64)
            if answer is not None:
                line.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(5)
        for line in held:
            line.close()


def test_auto_is_the_variable_then_the_file_then_rays_own_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_address("host:1") == ("host:1", "--address")
    assert resolve_address("auto") == ("auto", "--address")
    file = left_by_ray(tmp_path, "10.0.0.1:6379\n")
    assert resolve_address("auto") == ("10.0.0.1:6379", str(file))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert resolve_address("auto") == ("10.0.0.2:6379", "RAY_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert resolve_address("auto") == ("10.0.0.1:6379", str(file)), "Ray's folder on Linux"


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "local", "here:there", "[::1]:{port}"])
def test_an_address_at_which_nothing_is(
    address: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From wherever it comes, that is named, at once, and nothing is begun."""
    dead = address.format(port=free_port())
    file = left_by_ray(tmp_path, dead)
    began = time.monotonic()
    done = dynloss_here("run", tiny, "--out", tmp_path / "out", "--address", "auto")
    assert done.returncode == 2
    assert done.stderr.startswith(f"dynloss: {file}: no cluster at {dead}: ")
    monkeypatch.setenv("RAY_ADDRESS", dead)
    done = dynloss_here("run", tiny, "--out", tmp_path / "out", "--address", "auto")
    assert done.stderr.startswith(f"dynloss: RAY_ADDRESS: no cluster at {dead}: ")
    assert "unset it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert time.monotonic() - began < 30
    assert not (tmp_path / "out").exists()


def test_what_listens_may_be_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.cluster.addresses._SECONDS_TO_ANSWER", 0.5)
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None):
        with server(answer) as address, pytest.raises(ConfigError, match="--address: no cluster"):
            has_cluster(address, "--address")
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with server(settings) as address:
        has_cluster(address, "--address")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with server(None) as address:
        has_cluster(f"ray://{address}", "--address")


def test_rays_client_in_the_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS: ray://.*cannot run Tune"):
        joined_cluster("auto").__enter__()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("Initialization failure from server:\nTraceback (most ...\nRuntimeError: busy\n", "busy"),
        ("Initialization failure from server:\n", "does not say why"),
        ("", "does not say why"),
    ],
)
def test_a_head_that_starts_no_server_at_once_is_asked_again(
    said: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that is busy or has just started; after three times its last word is said."""
    asked: list[str] = []

    def init(address: str, **_: object) -> None:
        asked.append(address)
        if len(asked) < 3 or address.endswith("2"):
            raise ConnectionAbortedError(said)

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.nodes", list)
    monkeypatch.setattr("studies.cluster.ray_cluster.has_cluster", lambda *_: None)
    with joined_cluster("ray://127.0.0.1:1", {}):
        assert len(asked) == 3
    asked.clear()
    with pytest.raises(ConfigError, match=rf"no cluster at .*{why}; check `ray status`"):
        joined_cluster("ray://127.0.0.1:2", {}).__enter__()
    assert len(asked) == 3


def test_a_connection_that_is_lost_at_once_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def nodes() -> list[object]:
        asked.append(1)
        if len(asked) < 3:
            raise ConnectionError("client has already been disconnected")
        return []

    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr("ray.nodes", nodes)
    monkeypatch.setattr("studies.cluster.ray_cluster.has_cluster", lambda *_: None)
    with joined_cluster("ray://127.0.0.1:1", {}):
        assert len(asked) == 4, "the last asks what the cluster has"
