"""What a newcomer types, and what they get wrong."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from studies.blocks import block_probe
from studies.cluster.addresses import reaches_beyond
from studies.runner import dry_run
from tests.imported_modules import HEAVY, imported_by
from tests.studies.commands import dynloss_here
from tests.studies.tiny import tiny_study


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("run",),
        ("confirm",),
        ("status",),
        ("analyse",),
        ("stop",),
        ("submit",),
        ("sync",),
        ("ui",),
        ("list",),
        ("show",),
        ("schema",),
        ("check",),
        ("train",),
        ("export",),
        ("space",),
        ("space", "sample"),
    ],
    ids=" ".join,
)
def test_every_command_has_help_and_an_example(arguments: tuple[str, ...]) -> None:
    done = dynloss_here(*arguments, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    if arguments and arguments != ("space",):
        assert "Example" in done.stdout
        assert " · " not in done.stdout


def test_examples_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = [line.strip() for line in dynloss_here("run", "--help").stdout.splitlines()]
    assert any(line.endswith("dynloss run quickstart") for line in lines)
    assert any(line.endswith("dynloss run my.yaml --dry-run") for line in lines)


def test_the_version_is_one() -> None:
    import dynloss_core

    assert dynloss_here("--version").stdout == f"dynloss {dynloss_core.__version__}\n"
    assert "Usage:" in dynloss_here("space", "show", "-h").stdout


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["space", "list"], ["list"]])
def test_a_short_answer_waits_for_nothing(words: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)] if words == ["list"] else []
    modules, _ = imported_by(*words, *out)
    assert not modules & HEAVY


def test_dry_run_starts_nothing(tiny: Path, tmp_path: Path) -> None:
    done = dynloss_here("run", tiny, "--dry-run", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for expected in ("6 dynamical + 6 static", "33 networks in 9 blocks", "60 each", "per network and step",
                     "the cluster has", "about"):  # fmt: skip
        assert expected in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_dry_run_for_another_machine_says_what_is_missing(tiny: Path, tmp_path: Path) -> None:
    asked = ("--set", "resources={cpu: 4096, gpu: 512}")
    done = dynloss_here("run", tiny, "--dry-run", *asked, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "33 networks in 9 blocks" in done.stdout
    assert "time       about" in done.stdout
    cpu, gpu = [line for line in done.stdout.splitlines() if line.startswith("missing")]
    assert "needs 4096 CPU, the largest machine has" in cpu
    assert "needs 512 GPU, the largest machine has" in gpu


def test_a_dry_run_without_the_data_counts(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNLOSS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path))
    text = tiny.read_text().replace("{name: spirals, points_per_class: 10}", "cifar10")
    tiny.write_text(text.replace("budget:", "training: {batch_size: 100}\nbudget:"))
    done = dynloss_here("run", tiny, "--dry-run", "--data-dir", "/elsewhere/data")
    assert done.returncode == 0, done.stderr
    for expected in ("33 networks in 9 blocks", "60 each", "time       not known",
                     "missing    data.name: cifar10 is in none of"):  # fmt: skip
        assert expected in done.stdout


REFUSED = [
    (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["run", "nostudy"], "no study 'nostudy'; give a .yaml file, or a name that `dynloss list` shows"),
    (["run", "quickstrat"], "no study 'quickstrat'; did you mean 'quickstart'? Or give a .yaml file, or a "),
    (["show", "wrn_curvature"], "; did you mean 'wrn_curvature_lr'"),
    (["run", "TINY", "--set", "space=spiral-mlp"], "; did you mean 'spirals-mlp'? Or give a .yaml file, or a "),
    (["space", "show", "nospace"], "; give a .yaml file, or a name that `dynloss space list` shows"),
    (["status", "nostudy"], "; see `dynloss list"),
    (["status", "quickstrat"], "; did you mean 'quickstart'? Or see `dynloss list"),
    (["analyse", "quickstrat"], "; did you mean 'quickstart'? Or see `dynloss list"),
    (["check", "TINY"], "is not a plug-in; give a Python file, or try the study: dynloss run "),
    (["ui", "nostudy"], "no study 'nostudy' in /"),
    (["run", "TINY", "--set", "resources.gpu=512"], "resources.gpu: a block needs 512 GPU"),
    (["run", "TINY", "--set", "resources.cpu=4096"], "resources.cpu: a block needs 4096 CPU"),
    (["run", "TINY", "--address", "ray://127.0.0.1:1"], "would be lost with the connection"),
    (["run", "TINY", "--address", "ray://127.0.0.1:1", "--out", "/s"], "no cluster at 127.0.0.1:1"),
    (["submit", "TINY", "--address", "http://127.0.0.1:1", "--out", "/s"], "no cluster at 127.0.0.1:1"),
    (["submit", "TINY", "--address", "127.0.0.1:1", "--out", "/s"], "127.0.0.1:1 is not a dashboard"),
    (["submit", "TINY", "--address", "http://127.0.0.1:1", "--out", "s"], "would be lost with the connection"),
    (["run", "TINY", "--address", "127.0.0.1:1"], "--address: no cluster at 127.0.0.1:1"),
    (["run", "TINY", "--set", "budget.total=1e-4"], "budget.total: expected an integer, got 0.0001"),
    (["run", "TINY", "--set", "space.parameters.amplitude.low=0.2"], "0.2 is below 1"),
    (["run", "TINY", "--set", "storage.tracking_uri=sqlite:////proc/nowhere.db"],
     "storage.tracking_uri: sqlite:////proc/nowhere.db cannot be used"),
    (["run", "TINY", "--set", "storage.tracking_uri=gopher://u:secret@h/x"], "gopher://u:***@h/x"),
    (["run", "TINY", "--set", "storage.tracking_uri=http://127.0.0.1:9"],
     "http://127.0.0.1:9 cannot be used: [Errno 111] Connection refused"),
    (["run", "TINY", "--out", "/proc/nowhere"], "cannot be written"),
    (["status", "TINY"], "holds no study; run it first"),
    (["analyse", "TINY"], "holds no study; run it first"),
    (["export", "TINY"], "holds no study; run it first"),
    (["train", "--from", "TINY"], "holds no study; run it first"),
    (["ui"], "holds no MLflow store"),
    (["space", "validate", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["space", "show", "nospace"], "no space 'nospace'"),
    (["train", "--data", "spiral"], "'spiral' is not one of the choices"),
    (["train", "--amplitude", "0.5"], "amplitude: 0.5 is below 1"),
    (["train", "--period", "1"], "period: 1 is below 2"),
    (["train", "--batch-size", "9999"], "batch_size: 9999 exceeds"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    filled = [str(tiny) if each == "TINY" else each for each in arguments]
    done = dynloss_here(*filled)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    assert "secret" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before, "nothing was started"


def test_a_folder_in_use_is_not_touched(tiny: Path, tmp_path: Path) -> None:
    taken = tmp_path / "out" / "tiny"
    taken.mkdir(parents=True)
    (taken / "thesis.txt").write_text("precious")
    done = dynloss_here("run", tiny, "--out", tmp_path / "out", "--resume")
    assert done.returncode == 2
    assert "is not empty and holds no study" in done.stderr
    assert os.listdir(taken) == ["thesis.txt"]  # noqa: PTH208


def test_spaces_are_listed_shown_validated_and_sampled() -> None:
    listed = dynloss_here("space", "list")
    assert "spirals-mlp" in listed.stdout
    shown = dynloss_here("space", "show", "spirals-mlp")
    assert "200 to 10000" in shown.stdout
    assert "dropped" in shown.stdout
    valid = dynloss_here("space", "validate", "spirals-mlp", "digits-mlp")
    assert valid.stdout.count("valid") == 2
    sampled = dynloss_here("space", "sample", "spirals-mlp", "-n", "3", "--sobol")
    points = [json.loads(line) for line in sampled.stdout.splitlines()]
    assert len(points) == 3
    assert all(set(point) == {"period", "amplitude", "learning_rate"} for point in points)


@pytest.mark.filterwarnings("error")
def test_train_shows_a_run() -> None:
    done = dynloss_here("train", "--width", 10, "--steps", 200, "--static-tail", 50, "--period", 20)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "T = 20 steps, A = 70, learning rate 1"
    assert lines[2] == (
        "F is what is minimised: cross entropy, with weights of the classes that oscillate until "
        "step 150"
    )
    assert lines[3].split()[:2] == ["step", "train"]
    assert lines[-3].split()[0] == "200"
    assert 0 <= float(lines[-1].removeprefix("test accuracy ")) <= 1
    words = ("--amplitude", 1, "--momentum", 0.5, "--steps", 20, "--groups", "random")
    static = dynloss_here("train", *words).stdout.splitlines()
    assert static[1] == "A = 1, the static loss; learning rate 1, momentum 0.5"
    assert static[2] == "F is what is minimised: cross entropy, every sample alike"
    diverged = dynloss_here(
        "train", "--width", 10, "--steps", 200, "--static-tail", 0, "--lr", 1e300
    )
    assert "diverged" in diverged.stdout


def test_train_keeps_every_step(tmp_path: Path) -> None:
    lost = dynloss_here("train", "--steps", 40, "--trace", tmp_path / "deep" / "steps.parquet")
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "is not a folder to write to" in lost.stderr
    file = tmp_path / "steps.parquet"
    done = dynloss_here("train", "--width", 5, "--steps", 40, "--period", 10, "--trace", file)
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(file)
    assert rows["step"].tolist() == list(range(40))
    weights = rows[["class_weight_0", "class_weight_1", "class_weight_2"]]
    assert weights.sum(axis=1).to_numpy() == pytest.approx(3.0)
    assert (weights.iloc[5].to_numpy() == weights.iloc[5].max()).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("address", "beyond"),
    [("127.0.0.1:6379", False), ("localhost:6379", False), ("10.0.0.1:6379", True), ("auto", True)],
)
def test_what_listens_beyond_loopback(
    address: str, beyond: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert reaches_beyond(address) is beyond


def test_the_first_step_of_a_calibration_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles, for 100 seconds of this clock; any other takes a second and a half."""
    clock = itertools.chain([0.0, 100.0], itertools.count(100.0, 1.5))
    monkeypatch.setattr(block_probe, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    study = tiny_study()
    arm = "dynamical"
    microseconds = dry_run._calibrate(study, arm, block_probe.representatives(study, arm)[0])
    members = study.seeds_per_point * study.trials_of(arm).block_size
    assert microseconds * members == pytest.approx(1.5e6)
