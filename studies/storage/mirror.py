"""A study in an object store, and its working copy on this machine.

One driver at a time writes a study, and the tables of its blocks never change once written. So a
driver works in a folder of its own machine, and what is new there is put into the store in the
order in which it was written: the store has the study as it was moments ago. The study goes on
anywhere from what the store has; a block that was finished in those moments is trained again, with
the same result.

The copy of the latest lease has all that there is, and its driver continues in it. Every other copy
is made equal to the store first. Left out is what one machine alone needs: `optuna.db`, which is
rebuilt from the tables, the locks, and the files of MLflow. Checkpoints of blocks do not pass
through the copy: workers put them into the store themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from dynloss_core.atomic import PART, write_atomically
from dynloss_core.config import ConfigError, reason_of
from studies.blocks.block import CHECKPOINTS, checkpoint_name
from studies.messages import say
from studies.object_store import ObjectStore, opened
from studies.out_folder import shown, store_address
from studies.storage.lease import LEASE, Lease, Term, latest_term
from studies.storage.study_paths import COPY, StudyPaths
from studies.storage.write_errors import unreachable

__all__ = ["kept_in_store", "put_results", "refresh", "refresh_all"]

_SECONDS_BETWEEN = 2.0  # two looks at what is new
_ATTEMPTS_TO_END = 3
_STAYS = (".lock", COPY, "stop")  # in every working copy
_LOCAL = (*_STAYS, "optuna.db", "status.json", "counts.jsonl", f"{CHECKPOINTS}/", LEASE)
_RESULTS = ("tables/", "figures/", "paper/", "summary.json", "report.html")
_REPLACEABLE = (*_RESULTS, "progress.json")  # deleted in the store too; nothing else is, but errors
_ERROR, _MEMBERS = ".error.txt", ".members.parquet"
_AT_ONCE = 16  # objects that are fetched

_Stamp = tuple[int, int]  # when a file was written, in nanoseconds, and its size


def refresh(paths: StudyPaths, only: Collection[str] = ()) -> None:
    """Bring a working copy up to date with the store; without effect on a folder that is no copy,
    or in which the latest driver worked.

    Args:
        paths: of the study.
        only: the names of the files that are needed; all of them by default.

    Raises:
        ConfigError: if the store cannot be read, or has lost the study.
    """
    store = paths.store
    if store is None:
        return
    with _errors_of(paths), _one_at_a_time(paths):
        if not paths.is_driven_here() and not _is_latest(paths, latest_term(store)):
            _fetch(paths, store, only)


def refresh_all(out: Path, only: Collection[str]) -> None:
    """Bring those files of every study in an output folder up to date; as `refresh`."""
    address = store_address(out)
    if address is None:
        return
    try:
        names = opened(address).list()
    except OSError as error:
        raise unreachable(error, address) from None
    for name in sorted(names):
        study, _, file = name.partition("/")
        if file == "study.yaml":
            refresh(StudyPaths(out / study), only)


@contextmanager
def kept_in_store(paths: StudyPaths) -> Iterator[None]:
    """Keep other drivers out while this one works in the copy, whose lock must be held, and put
    what it writes into the store; without effect on a folder that is no copy.

    Raises:
        ConfigError: if another driver is running the study, the store cannot be used, or what is
            new could not be put there.
    """
    store = paths.store
    if store is None:
        yield
        return
    with ExitStack() as stack:
        with _errors_of(paths):
            stack.callback(_forget_unbegun, paths, store)
            lease = Lease(store, _owner_of(paths), on_loss=paths.ask_to_stop_here)
            stack.enter_context(lease)
            with _one_at_a_time(paths):
                if not _is_latest(paths, lease.before):
                    _fetch(paths, store)
                _begin_term(paths, lease.number)
            store.delete("stop")  # for an earlier driver
            mirror = _Mirror(paths, store, lease)
        mirror.start()
        try:
            yield
        except BaseException:
            mirror.end(tells=False)
            raise
        mirror.end()


def put_results(paths: StudyPaths) -> None:
    """Put results into the store that were written without a driver, unless one is running.

    Raises:
        ConfigError: if the store cannot be written.
    """
    if paths.store is not None and not paths.is_locked():
        with _errors_of(paths):
            for name in _files(paths.path):
                if name.startswith(_RESULTS):
                    paths.store.write(name, (paths.path / name).read_bytes())


class _Mirror:
    """Puts what a driver writes into the store.

    Args:
        paths: of the working copy.
        store: the study's store.
        lease: this driver's.
    """

    def __init__(self, paths: StudyPaths, store: ObjectStore, lease: Lease) -> None:
        self._paths, self._store, self._lease = paths, store, lease
        files = _files(paths.path)
        self._put: dict[str, _Stamp] = {}
        for name in filter(_lasts, store.list()):
            is_same = name.startswith("parts/") and name in files  # parts never change
            self._put[name] = files[name] if is_same else (0, 0)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)

    def start(self) -> None:
        """Begin to put what is new, from time to time."""
        self._thread.start()

    def end(self, *, tells: bool = True) -> None:
        """Put what is left.

        Args:
            tells: whether to raise what prevents it; else it is said, for an error that matters
                more is on its way.

        Raises:
            ConfigError: if it cannot be put.
        """
        self._is_ending.set()
        self._thread.join()
        where = shown(self._paths.path)
        refused: ConfigError | None = None
        for _ in range(_ATTEMPTS_TO_END):
            try:
                self._lease.check()
                self.put()
            except ConfigError as error:
                refused = error.inside(source=where)
                break
            except OSError as error:
                problem = f"cannot be written: {error.strerror or reason_of(error)}"
                remedy = f"continue here with --resume: {self._paths.path} has everything"
                refused = ConfigError("", problem, remedy, where)
            else:
                return
        assert refused is not None
        if tells:
            raise refused
        say(str(refused))

    def put(self) -> None:
        """Put what is new, in the order in which it was written.

        Raises:
            OSError: if the store cannot be reached; what is left is put next time.
            ConfigError: if another driver has taken over.
        """
        files = {name: stamp for name, stamp in _files(self._paths.path).items() if _lasts(name)}
        new = [name for name, stamp in files.items() if stamp != self._put.get(name)]
        new.sort(key=lambda name: (files[name][0], name.endswith(_MEMBERS)))
        for name in new:
            try:
                content = (self._paths.path / name).read_bytes()
            except FileNotFoundError:
                continue
            self._lease.check()
            self._store.write(name, content)
            self._put[name] = files[name]
            if name.endswith(_MEMBERS):  # the block is finished
                block = name.removeprefix("parts/").removesuffix(_MEMBERS)
                self._store.delete(checkpoint_name(block))
        for name in self._put.keys() - files.keys():
            if name.startswith(_REPLACEABLE) or name.endswith(_ERROR):
                self._lease.check()
                self._store.delete(name)
                del self._put[name]

    def _work(self) -> None:
        has_said = False
        while not self._is_ending.wait(_SECONDS_BETWEEN):
            try:
                self.put()
                if self._store.exists("stop"):
                    self._paths.ask_to_stop_here()
                has_said = False
            except ConfigError:
                return  # the lease has asked the study to stop, and `end` says why
            except OSError as error:
                if not has_said:
                    where = shown(self._paths.path)
                    say(f"{where} is unreachable: {reason_of(error)}; the study goes on")
                has_said = True


def _is_latest(paths: StudyPaths, term: Term | None) -> bool:
    """Whether nothing in the store is newer than this copy, given the latest term: its driver
    worked here, and had all that there was when it began."""
    if term is None or not paths.exists():
        return False
    copy = paths.read_copy()
    return (copy.get("owner"), copy.get("term")) == (term.owner, term.number)


def _begin_term(paths: StudyPaths, number: int) -> None:
    """Note that the copy has all that there is, and will change: of the objects that it has, only
    tables of blocks are known to stay as they are."""
    copy = paths.read_copy()
    versions = copy.get("versions", {})
    lasting = {name: v for name, v in versions.items() if name.startswith("parts/")}
    _write_copy(paths, {**copy, "term": number, "versions": lasting})


def _fetch(paths: StudyPaths, store: ObjectStore, only: Collection[str] = ()) -> None:
    """Make a working copy equal to the store, or those files of it."""
    there = {name: version for name, version in store.list().items() if _lasts(name)}
    if paths.exists() and not there:
        remedy = f"copy {paths.path} there, or delete it to begin again"
        raise ConfigError("", "no longer holds this study", remedy, shown(paths.path))
    copy, files = paths.read_copy(), _files(paths.path)
    known = {name: v for name, v in copy.get("versions", {}).items() if name in files}
    wanted = [name for name in only or there if name in there and known.get(name) != there[name]]
    if not only:
        for name in files.keys() - there.keys() - set(_STAYS):
            (paths.path / name).unlink(missing_ok=True)

    def fetched(name: str) -> bool:
        try:
            write_atomically(paths.path / name, store.read(name))
        except FileNotFoundError:  # a result that is being replaced
            return False
        return True

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = list(pool.map(fetched, wanted))
    new = {name: there[name] for name, is_here in zip(wanted, done, strict=True) if is_here}
    if new:
        _write_copy(paths, {**copy, "versions": {**known, **new}})


def _files(folder: Path) -> dict[str, _Stamp]:
    """The files of a study's folder, but for those that are being written."""
    found = {}
    for place, _, names in os.walk(folder):
        prefix = os.path.relpath(place, folder).replace(os.sep, "/").removeprefix(".")
        for name in names:
            if not name.endswith(PART):
                with suppress(FileNotFoundError):
                    stat = os.stat(os.path.join(place, name))  # noqa: PTH116, PTH118  thousands
                    found[f"{prefix}/{name}".removeprefix("/")] = stat.st_mtime_ns, stat.st_size
    return found


def _lasts(name: str) -> bool:
    """Whether a file of a study is kept in the store."""
    return not name.startswith(_LOCAL)


def _owner_of(paths: StudyPaths) -> str:
    """The name of a working copy, which no other has."""
    owner = paths.copy_owner()
    if owner is None:
        owner = uuid4().hex
        _write_copy(paths, {**paths.read_copy(), "owner": owner})
    return owner


def _write_copy(paths: StudyPaths, content: Mapping[str, object]) -> None:
    write_atomically(paths.path / COPY, json.dumps(content))


def _forget_unbegun(paths: StudyPaths, store: ObjectStore) -> None:
    """Remove what a start that led to nothing has put into the store."""
    if not paths.path.exists():
        with suppress(OSError):
            names = store.list()
            if not any(name.startswith("parts/") for name in names):
                for name in names:
                    store.delete(name)


@contextmanager
def _one_at_a_time(paths: StudyPaths) -> Iterator[None]:
    """Let one process of this machine fetch at a time."""
    with (paths.path.parent / f".{paths.path.name}.fetching").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _errors_of(paths: StudyPaths) -> Iterator[None]:
    """Report in one line what the store refuses."""
    try:
        yield
    except ConfigError as error:
        raise error.inside(source=shown(paths.path)) from None
    except OSError as error:
        raise unreachable(error, shown(paths.path)) from None
