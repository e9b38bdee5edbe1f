"""An S3 server, for tests of what is kept in an object store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from unittest.mock import patch

import pytest

from tests.services import free_port, wait_until

__all__ = ["BUCKET", "needs_s3", "s3_variables", "serving_s3", "started_s3"]

BUCKET = "s3://bucket"

needs_s3 = pytest.mark.skipif(
    not all(find_spec(package) for package in ("s3fs", "moto", "flask")),
    reason="needs the extra test-s3",
)


@contextmanager
def started_s3() -> Iterator[str]:
    """The address of an empty bucket on a server on loopback."""
    host, port = "127.0.0.1", free_port()
    with s3_variables(host, port), serving_s3(host, port):
        yield BUCKET


@contextmanager
def s3_variables(host: str, port: int) -> Iterator[None]:
    """By their environment, this process and those that it starts find a server."""
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with patch.dict(os.environ, variables):
        forget_servers()
        yield
    forget_servers()


@contextmanager
def serving_s3(
    host: str, port: int, inside: Callable[[list[str]], list[str]] = lambda words: words
) -> Iterator[None]:
    """A server with an empty bucket.

    Args:
        host: its address.
        port: its port.
        inside: function that makes a command line one that runs in the network of that address.
    """
    words = [sys.executable, "-m", "moto.server", f"--host={host}", f"--port={port}"]
    make = [sys.executable, "-c", f"import s3fs; s3fs.S3FileSystem().mkdir({BUCKET!r})"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(inside(words), stdout=quiet, stderr=quiet)
    try:
        wait_until(lambda: subprocess.run(inside(make), stderr=quiet).returncode == 0)
        yield
    finally:
        server.kill()
        server.wait()


def forget_servers() -> None:
    """What this process has connected to another server is not used again."""
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
