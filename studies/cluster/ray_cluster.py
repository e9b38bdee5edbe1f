"""The Ray cluster: started here or joined, and checked before anything is scheduled on it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynloss_core.config import ConfigError, reason_of
from studies.cluster.addresses import has_cluster, is_client, reaches_beyond, resolve_address
from studies.cluster.capacity import Capacity, available_cpus
from studies.interrupts import kept_handlers
from studies.messages import say

__all__ = ["is_joined", "joined_cluster", "set_environment"]

_SUITE = Path(__file__).parents[2]  # the folder that holds its packages
_FOLDERS_OF_RAY = ("RAY_TMPDIR", "TMPDIR", "HOME")
_STARTS_OF_A_SERVER = 3


@contextmanager
def joined_cluster(
    address: str | None, environment: dict[str, Any] | None = None
) -> Iterator[Capacity]:
    """Join the cluster at `address`, or start one on this machine's loopback.

    Args:
        address: `auto`, or HOST:PORT of the head, or `ray://HOST:PORT` for Ray's client, which
            cannot run Tune (see `studies.cluster.remote_driver`).
        environment: Ray's runtime environment for what runs through the client.

    Yields:
        The CPUs and GPUs of the cluster, and under `node:CPU` and `node:GPU` those of its largest
        nodes, as a block is placed on one node.

    Raises:
        ConfigError: if no cluster answers at `address`, or Ray cannot start here.
    """
    if address is not None:
        address, source = resolve_address(address)
        if is_client(address) and environment is None:
            remedy = "give it to the dynloss command as --address, which runs the driver there"
            raise ConfigError(source, f"{address}: Ray's client cannot run Tune", remedy)
        if address != "auto":
            has_cluster(address, source)
    set_environment(address)
    import ray

    _keep_from_terminal(logging.getLogger("ray"))  # what it logs while it starts, too
    asks = address is None or (address != "auto" and _asks_for_token(address, source))
    try:
        with kept_handlers():
            if address is None:
                ray.init(
                    address="local",
                    num_cpus=available_cpus(),
                    include_dashboard=False,
                    log_to_driver=False,
                    configure_logging=False,
                    job_config=_where_workers_import(),
                )
            else:
                _join(address, environment)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if address is None:
            raise _cannot_start(error) from None
        remedy = "check `ray status`, and whether it needs a token (`ray get-auth-token`)"
        reason = reason_of(error)
        if isinstance(error, ConnectionAbortedError):  # its message is the head's traceback
            *_, last = str(error).strip().splitlines() or [""]
            said = "it started no server for Ray's client, and does not say why"
            reason = said if last == reason or not last else f"{reason} {last}"
        raise ConfigError(source, f"no cluster at {address}: {reason}", remedy) from None
    _keep_from_terminal(logging.getLogger("ray"))
    if address == "auto":  # Ray has found it
        address = str(ray.get_runtime_context().gcs_address)
        asks = _asks_for_token(address, source)
    if address is not None and not asks and reaches_beyond(address):
        say(
            f"the cluster at {address} listens beyond this machine and asks for no token: anyone "
            "who can reach it can run code there"
        )
    try:
        yield _capacity(ray.nodes())  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


class _LastingHandlers(list[logging.Handler]):
    """Handlers that Ray cannot clear as it starts: without any, Python writes to the terminal."""

    def clear(self) -> None:
        """Leave them as they are."""


def _keep_from_terminal(logger: logging.Logger) -> None:
    """Have what Ray logs go where this process sends it, if anywhere, and not to the terminal as
    well: a study reports its failures itself."""
    own = [each for each in logger.handlers if not type(each).__module__.startswith("ray.")]
    logger.handlers, logger.propagate = _LastingHandlers(own or [logging.NullHandler()]), False
    logger.setLevel(logging.WARNING)


def is_joined() -> bool:
    """Whether this process has joined a cluster, without importing Ray to find out."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _asks_for_token(address: str, source: str) -> bool:
    """See `studies.cluster.head_service.asks_for_token`."""
    from studies.cluster.head_service import asks_for_token

    return asks_for_token(address, source)


def _join(address: str, environment: dict[str, Any] | None) -> None:
    """Join a running cluster. A head starts a server for each of Ray's clients, and waits only half
    a minute for it: on a busy head, or one that has just started, one try is not enough. It may
    also lose one that has just begun: a first question shows that it has not."""
    import ray

    job = {} if is_client(address) else {"job_config": _where_workers_import()}
    for tries_left in reversed(range(_STARTS_OF_A_SERVER)):
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                configure_logging=False,
                runtime_env=environment,
                **job,
            )
            ray.nodes()  # type: ignore[no-untyped-call]
            return
        except ConnectionError:
            if not tries_left or not is_client(address):
                raise
            ray.shutdown()  # what is left of it would be taken for a connection


def _where_workers_import() -> Any:
    """A job configuration whose workers import the suite from the folder that this process did, if
    they have it.

    Ray would put the current folder first, and with it a user's own `studies` before the suite's.
    It does not for a job that has a working folder, which this one claims to have.
    """
    from ray.job_config import JobConfig

    class WithTheSuite(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    return WithTheSuite(_py_driver_sys_path=[str(_SUITE)])


def _cannot_start(error: Exception) -> ConfigError:
    """The refusal when Ray cannot start here, naming the variable of the folder at fault."""
    reason = reason_of(error)
    for variable in _FOLDERS_OF_RAY:
        if (folder := os.environ.get(variable)) and folder in reason:
            remedy = "set RAY_TMPDIR to a folder with a short path and free space, such as /tmp"
            if variable == "HOME":
                remedy = "set it to a writable folder"
            return ConfigError(variable, f"Ray cannot start here: {reason}", remedy)
    return ConfigError("", f"Ray cannot start here: {reason}", "see `ray status`")


def set_environment(address: str | None) -> None:
    """Set the environment variables that Ray reads when it is imported or started."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # what a worker that waits for its first block imports meanwhile
    os.environ.setdefault("RAY_preload_python_modules", "torch,pandas,pyarrow,ray.tune")
    if address is None:
        # Ray would start workers for any task, and then Tune's, whose environment is another
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    if address is None or not reaches_beyond(address):
        # on any system, Ray's switch for nodes that use loopback only
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if address is not None and (Path.home() / ".ray" / "auth_token").exists():
        # a head with a token asks for it; a driver given HOST:PORT presents one only if told to
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _capacity(nodes: list[dict[str, Any]]) -> Capacity:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    capacity = {}
    for name in ("CPU", "GPU"):
        amounts = [float(resources.get(name, 0.0)) for resources in alive]
        capacity[name] = sum(amounts)
        capacity[f"node:{name}"] = max(amounts, default=0.0)
    return capacity
