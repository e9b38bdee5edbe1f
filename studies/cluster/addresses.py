"""Where a Ray cluster is: what its address means, and whether a cluster answers there.

Ray tries for a quarter of an hour to reach an address at which nothing is; here that is known
within seconds.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TypeGuard

from dynloss_core.config import ConfigError

__all__ = ["CLIENT", "answers", "has_cluster", "is_client", "meant_by", "reaches_beyond"]

CLIENT = "ray://"
_VARIABLE = "RAY_ADDRESS"
_SECONDS_TO_ANSWER = 5.0
_SETTINGS = 4  # type of the frame with which an HTTP/2 server, as gRPC is one, begins
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


def is_client(address: str | None) -> TypeGuard[str]:
    """Whether an address is one of Ray's client: the cluster is elsewhere."""
    return address is not None and address.startswith(CLIENT)


def meant_by(address: str) -> tuple[str, str]:
    """The address that `auto` stands for, and what says so: a variable or a file.

    `auto` is what RAY_ADDRESS holds, else where `ray start` on this machine left its address. If
    there is neither it stays `auto`: Ray looks for a process of its own, which takes no time.
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
        source: the source of the address (see `meant_by`).

    Raises:
        ConfigError: if nothing answers there, or something that is not Ray.
    """
    remedies = {
        "--address": "give auto, HOST:PORT or ray://HOST:PORT",
        _VARIABLE: "unset it, or give --address HOST:PORT",
    }
    remedy = remedies.get(source, "start a cluster, or give --address HOST:PORT")
    answers(address.removeprefix(CLIENT), remedy, source=source, asks=_HTTP2)


def answers(address: str, remedy: str, *, source: str = "--address", asks: bytes = b"") -> None:
    """Fail if nothing listens at HOST:PORT, or it does not begin as an HTTP/2 server when asked.

    Raises:
        ConfigError: it names what the address came from, and gives the remedy.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER) as line:
            if asks and os.environ.get("RAY_USE_TLS", "0") == "0":
                line.sendall(asks)
                if line.recv(9)[3:4] != bytes([_SETTINGS]):
                    raise OSError("what listens there is not Ray")
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(source, f"no cluster at {address}: {error}", remedy) from None


def reaches_beyond(address: str) -> bool:
    """Whether a cluster listens beyond this machine's loopback, as far as its address tells."""
    return not meant_by(address)[0].removeprefix(CLIENT).startswith(("127.", "localhost"))


def _temporary_folder() -> Path:
    """Ray's, as it chooses it."""
    given = os.environ.get("RAY_TMPDIR")
    if given is None and sys.platform.startswith("linux"):
        given = os.environ.get("TMPDIR")
    return Path("/tmp" if given is None else given) / "ray"  # noqa: S108
