"""What a cluster's head says to a first call: whether it is the service that is looked for, and
whether it asks for a token.

Ray itself repeats a call that is refused for half a minute, with a line each time that never says
what to do.

Importing this module imports Ray; `studies.cluster.ray_cluster` sets up its environment first.
"""

from __future__ import annotations

import os
from typing import Any

import grpc

# Ray's own way to attach a token: it has no public one. A test asks a real head both ways.
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.grpc_utils import init_grpc_channel
from ray.exceptions import AuthenticationError

from dynloss_core.config import ConfigError, reason_of
from studies.cluster.addresses import CLIENT, is_client

__all__ = ["asks_for_token"]

_SECONDS_TO_ANSWER = 10.0
_OF_A_HEAD = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_OF_RAYS_CLIENT = "/ray.rpc.RayletDriver/ClusterInfo"
_REFUSED, _UNKNOWN = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED


def asks_for_token(address: str, source: str) -> bool:
    """Whether the service at an address asks for a token; if so, the one that is set here is it.

    What does not answer is left to Ray, which waits for it. So is a cluster with TLS, which asks
    for a certificate.

    Args:
        address: HOST:PORT of a head, or `ray://HOST:PORT`.
        source: where the address comes from (see `studies.cluster.addresses`).

    Raises:
        ConfigError: if it asks for another token than is set here, or is another service of Ray's.
    """
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True
    place = address.removeprefix(CLIENT)
    call, other = _OF_A_HEAD, _OF_RAYS_CLIENT
    if is_client(address):
        call, other = other, call
    with grpc.insecure_channel(place) as line:
        asks = _status(line, call)
        if asks is _UNKNOWN:
            raise _other_service(address, source, is_rays=_status(line, other) is not _UNKNOWN)
    if asks is not _REFUSED:
        return False
    given = "the one set here is another" if is_token_auth_enabled() else "none is set here"
    try:
        with init_grpc_channel(place) as line:  # with the token, if one is set
            if _status(line, call) is not _REFUSED:
                return True
    except AuthenticationError as error:
        given = f"the one set here cannot be read: {reason_of(error).partition('. ')[0]}"
    problem = f"the cluster at {address} asks for a token, and {given}"
    remedy = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` says there"
    raise ConfigError(source, problem, remedy)


def _other_service(address: str, source: str, *, is_rays: bool) -> ConfigError:
    place = address.removeprefix(CLIENT)
    if not is_rays:
        remedy = "give HOST:6379 or ray://HOST:10001"
        return ConfigError(source, f"what listens at {place} is not a head of Ray's", remedy)
    if is_client(address):
        problem, remedy = "is a head's port, and not that of Ray's client", f"give {place}"
    else:
        problem, remedy = "is the port of Ray's client", f"give {CLIENT}{place}"
    return ConfigError(source, f"{place} {problem}", remedy)


def _status(line: Any, call: str) -> grpc.StatusCode:
    """How an empty request ends."""
    ask = line.unary_unary(call, request_serializer=bytes, response_deserializer=bytes)
    try:
        ask(b"", timeout=_SECONDS_TO_ANSWER)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
