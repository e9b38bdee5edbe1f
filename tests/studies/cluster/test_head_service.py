"""What a head says to a first call. It is a gRPC server that knows Ray's calls and nothing else, for
Ray reads its own token once in a process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from dynloss_core.config import ConfigError
from studies.cluster.ray_cluster import joined_cluster, set_environment

set_environment(None)

from studies.cluster import head_service  # noqa: E402  its environment comes first
from studies.cluster.head_service import asks_for_token  # noqa: E402

HEAD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
CLIENT = "/ray.rpc.RayletDriver/ClusterInfo"


class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Knows some calls, and refuses them without a token, if there is one."""

    def __init__(self, *known: str, token: str | None = None) -> None:
        self._known, self._token = known, token

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method not in self._known:
            return None
        given = dict(details.invocation_metadata).get("authorization")

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self._token is not None and given != f"Bearer {self._token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def served(*known: str, token: str | None = None) -> Iterator[str]:
    """The address of a head that knows some calls."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Calls(*known, token=token)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_service, "init_grpc_channel", grpc.insecure_channel)
    monkeypatch.setattr(head_service, "is_token_auth_enabled", lambda: False)


def test_a_head_that_asks_for_no_token(no_token: None) -> None:
    with served(HEAD) as address:
        assert not asks_for_token(address, "--address")
    with served(CLIENT) as address:
        assert not asks_for_token(f"ray://{address}", "--address")
    assert not asks_for_token(address, "--address"), "what is gone is left to Ray"


def test_a_head_that_asks_for_a_token(no_token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a line at once says so and what to do; Ray is not even started."""
    with served(HEAD, token="right") as address:
        with pytest.raises(ConfigError, match=r"a token, and none is set here; .*RAY_AUTH_TOKEN"):
            joined_cluster(address).__enter__()
        monkeypatch.setattr(head_service, "is_token_auth_enabled", lambda: True)
        with pytest.raises(ConfigError, match=r"a token, and the one set here is another"):
            asks_for_token(address, "--address")


@pytest.mark.parametrize("asks", [True, False])
def test_a_warning_is_for_clusters_that_ask_for_no_token(
    asks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray.init", lambda **_: None)
    monkeypatch.setattr("ray.nodes", list)
    monkeypatch.setattr("studies.cluster.ray_cluster.reaches_beyond", lambda _: True)
    monkeypatch.setattr("studies.cluster.ray_cluster._asks_for_token", lambda *_: asks)
    with served(CLIENT) as address, joined_cluster(f"ray://{address}", {}):
        pass
    assert ("asks for no token" in capsys.readouterr().err) == (not asks)


def test_another_port_of_the_cluster_is_told(no_token: None) -> None:
    with served(CLIENT) as address, pytest.raises(ConfigError, match=rf"give ray://{address}"):
        asks_for_token(address, "--address")
    with served(HEAD) as address, pytest.raises(ConfigError, match=rf"give {address}"):
        asks_for_token(f"ray://{address}", "--address")
    with served("/other") as address, pytest.raises(ConfigError, match=r"is not a head of Ray's"):
        asks_for_token(address, "--address")
