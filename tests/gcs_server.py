"""A server of Google Cloud Storage's interface, for tests of what is kept there.

`python -m tests.gcs_server PORT` serves an empty bucket on loopback. The emulator does not know
preconditions, and the suite relies on one: an upload on condition that there is no such object yet
(https://cloud.google.com/storage/docs/request-preconditions). It is added here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.services import free_port, wait_until

__all__ = ["needs_gcs", "started_gcs"]

_HOST, _BUCKET = "127.0.0.1", "bucket"

needs_gcs = pytest.mark.skipif(
    not all(find_spec(package) for package in ("gcsfs", "gcp_storage_emulator")),
    reason="needs the extra test-gcs",
)


@contextmanager
def started_gcs() -> Iterator[str]:
    """The address of an empty bucket on a server on loopback."""
    port = free_port()
    variables = {"STORAGE_EMULATOR_HOST": f"http://{_HOST}:{port}", "FSSPEC_GS_TOKEN": "anon"}
    quiet = subprocess.DEVNULL
    words = [sys.executable, "-m", "tests.gcs_server", str(port)]
    server = subprocess.Popen(words, stdout=quiet, stderr=quiet)
    try:
        wait_until(lambda: _answers(port))
        with patch.dict(os.environ, variables):
            yield f"gs://{_BUCKET}"
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://{_HOST}:{port}/", timeout=5):
            return True
    except URLError:
        return False


def _serve(port: int) -> None:
    from gcp_storage_emulator import server
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects

    def insert(request: Any, response: Any, storage: Any, *given: Any, **named: Any) -> None:
        if request.query.get("ifGenerationMatch") == ["0"]:
            (name,) = request.query.get("name") or [request.data["meta"]["name"]]
            try:
                storage.get_file_obj(request.params["bucket_name"], name)
            except NotFound:
                pass
            else:
                response.status = HTTPStatus.PRECONDITION_FAILED
                return
        objects.insert(request, response, storage, *given, **named)

    server.HANDLERS = tuple(
        (path, {verb: insert if does is objects.insert else does for verb, does in verbs.items()})
        for path, verbs in server.HANDLERS
    )
    server.create_server(_HOST, port, in_memory=True, default_bucket=_BUCKET).run()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
