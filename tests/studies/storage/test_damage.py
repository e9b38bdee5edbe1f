"""Files that are damaged, missing or not what they were, by every command: what is read is what was
written, or one line names the file, what is wrong, and the remedy."""

from __future__ import annotations

import gc
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pandas as pd
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from dynloss_core import keys
from studies.definition.sqlite import tuned_sqlite
from studies.runner.run_study import confirm_study, run_study
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import run_without_ray
from tests.studies.tables import comparable
from tests.studies.tiny import tiny_file, tiny_study

FILES = [
    "study.yaml",
    "begun.json",
    "state.json",
    "origins.json",
    "confirm.json",
    "optuna.db",
    "summary.json",
    "report.html",
    "tables/members.parquet",
    "tables/curves.parquet",
    "tables/runs.parquet",
    "figures/verdict.png",
    "parts/search-dynamical-00000.members.parquet",
    "parts/search-static-00001.curves.parquet",
    "parts/confirm-dynamical-00000.members.parquet",
    "parts/confirm-2-static-00000.curves.parquet",
    "../mlflow.db",
]
NEVER_READ = ("report.html", "figures/")
COMMANDS = [
    ["status"],
    ["analyse"],
    ["sync"],
    ["confirm", "--seeds", "2"],
    ["run", "--resume"],
    ["run", "--extend", "1"],
]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def hole(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = random.Random(path.name).randrange(max(1, len(content) - 64))
    content[start : start + 64] = bytes(len(content[start : start + 64]))
    path.write_bytes(content)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(500))


def flip(path: Path) -> None:
    content, bit = bytearray(path.read_bytes()), random.Random(path.name)
    content[bit.randrange(len(content))] ^= 1 << bit.randrange(8)
    path.write_bytes(content)


def delete(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [
    cut, empty, hole, garbage, flip, delete, folder_instead,
]  # fmt: skip
OF_WHAT_IS_NEVER_READ: list[Callable[[Path], None]] = [cut, garbage, delete, folder_instead]


@pytest.fixture(scope="module")
def without_ray() -> Iterator[None]:
    """Blocks are trained in this process, and nothing is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        run_without_ray(patch)
        yield


@pytest.fixture(scope="module")
def finished(without_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished study with a round of confirmation beside its own."""
    out = tmp_path_factory.mktemp("finished")
    tiny_file(out)
    folder = run_study(tiny_study(trials_per_arm=4), out).folder
    confirm_study(folder, seeds=2)
    (folder.figures / "verdict.png").parent.mkdir(exist_ok=True)
    (folder.figures / "verdict.png").write_bytes(b"a picture")
    return out


def tables(out: Path) -> dict[str, pd.DataFrame]:
    """What a study has trained, without what depends on the clock, and without what `--extend` or
    `confirm` added."""
    frames = {}
    for kind in ("members", "curves"):
        frame = StudyFolder(out / "tiny").parts.gather(kind)
        frame = frame[frame[keys.PHASE].isin(["search", "confirm", "confirm-2"])]
        frames[kind] = comparable(frame[frame[keys.TRIAL] < 4])
    return frames


def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy, moved: its original is out of its reach, as after a disk was restored."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    return out


def typed(command: list[str], out: Path) -> subprocess.CompletedProcess[str]:
    name, *options = command
    words = ["--set", "trials_per_arm=4"] if name == "run" else []
    study = out / "tiny.yaml" if name == "run" else "tiny"
    return dynloss_here(name, study, *options, *words, "--out", out)


@pytest.mark.parametrize("file", FILES)
def test_every_damage_by_some_command(
    file: str, finished: Path, without_ray: None, tmp_path: Path
) -> None:
    index = FILES.index(file)
    damage, command = DAMAGES[index % len(DAMAGES)], COMMANDS[index % len(COMMANDS)]
    check(file, damage, command, finished, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_damage_by_every_command(
    file: str,
    finished: Path,
    without_ray: None,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    damages = OF_WHAT_IS_NEVER_READ if file.startswith(NEVER_READ) else DAMAGES
    ends = Counter(
        check(file, damage, command, finished, tmp_path)
        for damage in damages
        for command in COMMANDS
    )
    record_property("ends", dict(ends))


def check(
    file: str, damage: Callable[[Path], None], command: list[str], finished: Path, tmp_path: Path
) -> str:
    """One damage, one command: the tables are what they were, or the file is named with a remedy;
    which of the two."""
    out = copied(finished, tmp_path)
    path = out / "tiny" / file
    damage(path)
    untrained = damage is delete and file.endswith(".members.parquet") and "parts/" in file
    done = typed(command, out)
    what = f"{file} {damage.__name__}: dynloss {' '.join(command)}: {done.stderr}"
    assert "Traceback" not in done.stderr, what
    assert not (out / "tiny" / "error.log").exists(), what
    if done.returncode == 2:
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("dynloss: ")]
        assert path.name in line or (untrained and "not finished" in line), what
        assert "; " in line, f"no remedy: {what}"
    else:
        assert done.returncode == 0, what
        if command != ["status"] and not (untrained and command[0] != "run"):
            for kind, frame in tables(out).items():
                pd.testing.assert_frame_equal(frame, tables(finished)[kind], obj=what)
    shutil.rmtree(out)
    return "refused" if done.returncode else "as it was"


@pytest.mark.parametrize("file", [each for each in FILES if each.startswith("parts/")])
@pytest.mark.parametrize("damage", [hole, delete])
def test_the_remedy_for_a_part_gives_the_same_table(
    file: str, damage: Callable[[Path], None], finished: Path, without_ray: None, tmp_path: Path
) -> None:
    reference, out = tables(finished), copied(finished, tmp_path)
    damage(out / "tiny" / file)
    done = typed(["run", "--resume"], out)
    if damage is hole or "curves" in file:
        assert done.returncode == 2
        _, _, rest = done.stderr.partition("; delete ")
        Path(rest.partition(", then ")[0]).unlink()
        assert typed(["run", "--resume"], out).returncode == 0
    for kind, frame in tables(out).items():
        pd.testing.assert_frame_equal(frame, reference[kind])


def test_a_deleted_optuna_file_is_made_again(
    finished: Path, without_ray: None, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    (out / "tiny" / "optuna.db").unlink()
    assert typed(["run", "--resume"], out).returncode == 0
    for arm in ("dynamical", "static"):
        before, after = (
            optuna.load_study(study_name=f"tiny/{arm}", storage=f"sqlite:///{each}/tiny/optuna.db")
            for each in (finished, out)
        )
        assert [(t.params, t.values, t.state) for t in before.trials] == [
            (t.params, t.values, t.state) for t in after.trials
        ]


def test_points_that_optuna_remembers_otherwise_are_refused(
    finished: Path, without_ray: None, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    with closing(sqlite3.connect(out / "tiny" / "optuna.db")) as database, database:
        database.execute("UPDATE trial_params SET param_value = param_value * 1.5")
    done = typed(["run", "--resume"], out)
    assert done.returncode == 2
    assert "does not hold the networks that the study expects there; delete " in done.stderr
    (out / "tiny" / "optuna.db").unlink()
    assert typed(["run", "--resume"], out).returncode == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder on a medium that nothing can be written to."""
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a read-only medium takes root to make")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder, folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # what is open in it closes later


def test_a_folder_that_is_read_only_can_be_looked_at(
    finished: Path, without_ray: None, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    with read_only(out):
        assert typed(["status"], out).returncode == 0
        for command in (["analyse"], ["sync"], ["run", "--resume"], ["run", "--extend", "1"]):
            done = typed(command, out)
            assert done.returncode == 2
            assert "cannot be written: Read-only file system; " in done.stderr
            assert done.stderr.count("\n") == 1
        done = dynloss_here("analyse", "tiny", "--out", out, "--into", tmp_path / "mine")
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "mine") in done.stdout
        mine = pd.read_parquet(tmp_path / "mine" / "tables" / "members.parquet")
        pd.testing.assert_frame_equal(mine, StudyFolder(out / "tiny").parts.gather("members"))
        (study,) = optuna.get_all_study_names(f"sqlite:///{out}/tiny/optuna.db")[:1]
        assert study.startswith("tiny/")
        client = MlflowClient(f"sqlite:///{out}/mlflow.db")
        assert client.get_experiment_by_name("dynloss") is not None


def test_looking_into_a_study_leaves_its_databases_without_a_log(
    finished: Path, without_ray: None, tmp_path: Path
) -> None:
    """Files with a write-ahead log cannot be opened on a read-only medium, nor by two machines."""
    out = copied(finished, tmp_path)
    optuna.get_all_study_names(f"sqlite:///{out}/tiny/optuna.db")
    MlflowClient(f"sqlite:///{out}/mlflow.db").search_experiments()
    for path in (out / "tiny" / "optuna.db", out / "mlflow.db"):
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",), path


def test_a_connection_that_nobody_closed_keeps_no_log(tmp_path: Path) -> None:
    """As where an error's traceback holds a session."""
    path = tmp_path / "a.db"
    with tuned_sqlite():
        used = sa.create_engine(f"sqlite:///{path}").connect()
        used.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        used.commit()
        used.execute(sa.text("SELECT * FROM t"))
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_an_engine_that_is_gone_leaves_no_log(tmp_path: Path) -> None:
    """As where Optuna's storage was collected before the study ends."""
    path = tmp_path / "a.db"
    with tuned_sqlite():
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.begin() as used:
            used.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        del engine, used
        gc.collect()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_files_that_a_killed_writer_left_are_removed(
    finished: Path, without_ray: None, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    left = [out / "tiny" / name for name in ("state.json.1.part", "parts/a.members.parquet.2.part")]
    for path in left:
        path.write_bytes(b"half")
    assert typed(["run", "--resume"], out).returncode == 0
    assert not any(path.exists() for path in left)
