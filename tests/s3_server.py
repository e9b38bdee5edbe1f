"""An S3 server on loopback, for tests of what is kept in an object store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from unittest.mock import patch

import pytest

from tests.services import free_port, wait_for

__all__ = ["BUCKET", "needs_s3", "started_s3"]

BUCKET = "bucket"

needs_s3 = pytest.mark.skipif(
    not all(find_spec(package) for package in ("s3fs", "moto", "flask")),
    reason="needs the extra test-s3",
)


@contextmanager
def started_s3() -> Iterator[str]:
    """The address of an empty bucket on a server of its own, which this process and those that it
    starts find by their environment."""
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "--host=127.0.0.1", f"--port={port}"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(words, stdout=quiet, stderr=quiet)
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        wait_for(port)
        with patch.dict(os.environ, variables):
            import s3fs

            s3fs.S3FileSystem.clear_instance_cache()  # they know an earlier server
            s3fs.S3FileSystem().mkdir(BUCKET)
            yield f"s3://{BUCKET}"
    finally:
        server.kill()
        server.wait()
        if "s3fs" in sys.modules:
            sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
