"""Where a Ray cluster is: what its address means, and whether a cluster answers there.

Ray tries for a quarter of an hour to reach an address where nothing listens; this takes seconds.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TypeGuard

from dynloss_core.config import ConfigError

__all__ = [
    "CLIENT",
    "check_reachable",
    "has_cluster",
    "is_client",
    "resolve_address",
    "reaches_beyond",
]

CLIENT = "ray://"
_VARIABLE = "RAY_ADDRESS"
_SECONDS_TO_ANSWER = 5.0
_SETTINGS = 4  # type of the first frame from an HTTP/2 server, such as gRPC's
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


def is_client(address: str | None) -> TypeGuard[str]:
    """Whether an address is for Ray's client, which runs outside the cluster."""
    return address is not None and address.startswith(CLIENT)


def resolve_address(address: str) -> tuple[str, str]:
    """The address that `auto` stands for, and what says so: a variable or a file.

    `auto` is the value of RAY_ADDRESS, else the address that `ray start` left on this machine. With
    neither it stays `auto`: Ray looks for a process of its own, which takes no time.
    """
    if address != "auto":
        return address, "--address"
    if named := os.environ.get(_VARIABLE):
        return named, _VARIABLE
    file = _temporary_folder() / "ray_current_cluster"
    try:
        return file.read_text().strip() or address, str(file)
    except OSError:
        return address, "--address"


def has_cluster(address: str, source: str) -> None:
    """Fail at once where Ray would try for minutes.

    Args:
        address: HOST:PORT or `ray://HOST:PORT`.
        source: where the address comes from (see `resolve_address`).

    Raises:
        ConfigError: if nothing answers there, or something that is not Ray.
    """
    remedies = {
        "--address": "give auto, HOST:PORT or ray://HOST:PORT",
        _VARIABLE: "unset it, or give --address HOST:PORT",
    }
    remedy = remedies.get(source, "start a cluster, or give --address HOST:PORT")
    check_reachable(address.removeprefix(CLIENT), remedy, source=source, probe=_HTTP2)


def check_reachable(
    address: str, remedy: str, *, source: str = "--address", probe: bytes = b""
) -> None:
    """Fail if nothing listens at HOST:PORT, or if `probe` is sent and no HTTP/2 server answers.

    Raises:
        ConfigError: naming where the address comes from, and the remedy.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER) as line:
            if probe and os.environ.get("RAY_USE_TLS", "0") == "0":
                line.sendall(probe)
                if line.recv(9)[3:4] != bytes([_SETTINGS]):
                    raise OSError("what listens there is not Ray")
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(source, f"no cluster at {address}: {error}", remedy) from None


def reaches_beyond(address: str) -> bool:
    """Whether a cluster listens beyond this machine's loopback, judging by its address."""
    return not resolve_address(address)[0].removeprefix(CLIENT).startswith(("127.", "localhost"))


def _temporary_folder() -> Path:
    """Ray's temporary folder, chosen as Ray does."""
    folder = os.environ.get("RAY_TMPDIR")
    if folder is None and sys.platform.startswith("linux"):
        folder = os.environ.get("TMPDIR")
    return Path("/tmp" if folder is None else folder) / "ray"  # noqa: S108
