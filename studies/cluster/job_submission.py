"""A study sent to a Ray cluster as a job: its driver runs there, and nobody has to stay connected.

The code is sent too, in the job's runtime environment: the modules of the suite's three packages,
the resolved study file and its plug-ins, and nothing else that may lie beside them. The machines of
the cluster need the suite's dependencies, but not the suite.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from dynloss_core.config import ConfigError, reason_of, to_dict
from search_spaces.documents import dump_document
from studies.cluster.addresses import check_reachable, reaches_beyond
from studies.cluster.ray_cluster import set_environment
from studies.definition.plugin_files import write_plugins
from studies.definition.redaction import hide_password
from studies.definition.study import Study
from studies.messages import say

__all__ = ["check_out", "follow", "shipped", "submit", "variables"]

PACKAGES = ("dynloss_core", "search_spaces", "studies")
_NO_AGENT = "No available agent"
"""Ray's message from a head that has only just started, and from one that can never take a job,
since another Ray on its machine holds the port of its agent."""
_HELD_PORT = (
    "if another Ray runs on the head's machine, start this one with --dashboard-agent-listen-port=0"
)
_SECONDS_FOR_AN_AGENT = 180.0  # on a busy head
_PAGE = ("report.css", "report.html.j2", "report.js", "explore.js")
_READ = tuple(f"studies/report/page/{name}" for name in _PAGE)
"""Files that modules read where they lie; a study that was resolved needs no others."""


def submit(study: Study, address: str, out: str, data_dir: str | None = None) -> str:
    """Send a study to a cluster, and return the id of its job. Sent again, the study is resumed.

    Args:
        study: the definition.
        address: the address of the cluster's dashboard, `http://HOST:8265`.
        out: output folder on the cluster, absolute, shared by its machines.
        data_dir: folder of image data on the cluster.

    Raises:
        ConfigError: if nothing answers at `address`, the output folder would be lost with the job,
            or a secret would have to be sent.
    """
    check_out(out)
    client, refusals = _client(address)
    if address.startswith("http://") and reaches_beyond(address.removeprefix("http://")):
        say(f"{address} is not encrypted: eavesdroppers can read the study and Ray's token")
    command = ["python", "-m", "studies", "run", "study.yaml", "--address", "auto", "--resume"]
    command += [] if data_dir is None else ["--data-dir", data_dir]
    with shipped(study) as folder:
        environment = {"working_dir": str(folder), "env_vars": variables()}
        job = {
            "entrypoint": shlex.join([*command, "--out", out]),
            "runtime_env": environment,
            "submission_id": f"{study.name}-{study.hash[:6]}-{int(time.time())}",
            "metadata": {"study": study.name, "study_hash": study.hash},
        }
        began, waits = time.monotonic(), False
        while True:
            try:
                return str(client.submit_job(**job))
            except refusals as error:
                no_agent = _NO_AGENT in str(error)
                if no_agent and time.monotonic() - began < _SECONDS_FOR_AN_AGENT:
                    if not waits:
                        say("the cluster is not ready for jobs yet; trying for up to three minutes")
                    waits = True
                    time.sleep(1)
                    continue
                problem = f"{address} refuses the job: {reason_of(error)[:200]}"
                remedy = _HELD_PORT if no_agent else "see its dashboard"
                raise ConfigError("--address", problem, remedy) from None


def follow(address: str, job: str) -> bool:
    """Print a job's output until it ends, and return whether it succeeded.

    Raises:
        ConfigError: if the connection is lost; the job goes on.
    """
    client, refusals = _client(address)

    async def tail() -> None:
        async for text in client.tail_job_logs(job):
            print(text, end="", flush=True)  # noqa: T201  the job's output, unchanged

    from aiohttp import ClientError

    lost: tuple[type[Exception], ...] = (*refusals, ClientError)
    try:
        asyncio.run(tail())
        while not (status := client.get_job_status(job)).is_terminal():
            time.sleep(0.5)
    except lost as error:
        problem = f"the connection to {address} was lost: {reason_of(error)[:200]}"
        raise ConfigError(
            "--address", problem, "the job continues; watch it as shown above"
        ) from None
    return bool(status.name == "SUCCEEDED")


def _client(address: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A client of a cluster's dashboard, and the errors that it raises when it is refused.

    Raises:
        ConfigError: if the dashboard cannot be reached, or Ray's job client is not installed.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in ("http", "https") or not rest:
        remedy = "give http://HOST:8265, where the head's dashboard is"
        raise ConfigError("--address", f"{address} is not a dashboard", remedy)
    check_reachable(rest.rstrip("/"), "give http://HOST:8265, where the head's dashboard is")
    set_environment(rest)
    logging.getLogger("ray").setLevel(logging.WARNING)
    try:
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        remedy = "pip install 'dynloss[cluster]'"
        raise ConfigError("--address", f"submitting a job needs {error.name}", remedy) from None
    refusals = (RuntimeError, ValueError, OSError, RayError)
    try:
        return JobSubmissionClient(address), refusals
    except refusals as error:
        problem = f"{address} is not a Ray dashboard, or needs a token: {reason_of(error)[:200]}"
        raise ConfigError("--address", problem, "see `ray get-auth-token`") from None


def check_out(out: str) -> None:
    """Refuse an output folder on a cluster that would not outlive the job.

    Raises:
        ConfigError: if it is relative.
    """
    if "://" not in out and not PurePosixPath(out).is_absolute():
        remedy = "give an absolute path on the cluster that its machines share, or s3://"
        raise ConfigError("--out", f"{out} would be lost with the connection", remedy)


@contextmanager
def shipped(study: Study | None) -> Iterator[Path]:
    """A temporary folder to send, with the code and the study, if there is one.

    Raises:
        ConfigError: if the suite is installed as links, which are not followed.
    """
    source = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="dynloss-job-") as name:
        folder = Path(name)
        for path in _sent_files(source):
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy, follow_symlinks=False)
        if not (folder / "studies" / "__main__.py").is_file():
            problem = f"{source / 'studies'} holds links, and what they lead to is not sent"
            raise ConfigError("", problem, "install the suite as files, such as with `pip install`")
        if study is not None:
            (folder / "study.yaml").write_text(dump_document(to_dict(study)))
            write_plugins(study.plugins, folder)
        # Ray knows a folder by its content, and deletes it when the job that sent it ends: one that
        # was sent twice would be gone under the second
        (folder / "sent_as").write_text(uuid4().hex)
        yield folder


def _sent_files(source: Path) -> Iterator[Path]:
    """The suite's own files: the modules of its packages, and what they read. Whatever else a user
    keeps there may be a secret, and a link may lead to one."""
    for package in PACKAGES:
        for place, folders, names in os.walk(source / package):
            if "__init__.py" not in names:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith(".")]
            modules = [Path(place, name) for name in sorted(names) if name.endswith(".py")]
            yield from (path for path in modules if _is_own(path))
    yield from (source / name for name in _READ if _is_own(source / name))


def _is_own(path: Path) -> bool:
    """Whether a file is neither hidden nor a link."""
    return not path.name.startswith(".") and not path.is_symlink() and path.is_file()


def variables() -> dict[str, str]:
    """The environment variables that the driver there needs; the dashboard shows them to its users.

    Raises:
        ConfigError: if one contains a password.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if hide_password(uri) != uri:
        raise ConfigError(
            "MLFLOW_TRACKING_URI",
            "holds a password, which the dashboard would show",
            "set it on the machines of the cluster, and unset it here",
        )
    return {"MLFLOW_TRACKING_URI": uri} if uri else {}
