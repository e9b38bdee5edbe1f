"""The winner of a study, trained again by `dynloss train --from`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import studies
from dynloss_core import keys
from studies.storage.recorded_winner import METRICS, RecordedWinner
from tests.studies.commands import dynloss_here
from tests.studies.tiny import MAP, tiny_study

pytestmark = pytest.mark.usefixtures("undrawn")

UNTRACKED: dict[str, Any] = {"backend": "inline", "storage": {"tracker": "none"}}
SEARCHED_TWICE: dict[str, Any] = {
    "data": {"name": "digits"},
    "training": {"batch_size": 100, "nesterov": True, "dtype": "float64"},
    "searches": 2,
    "trials_per_arm": 3,
    "seeds_per_point": 1,
    "confirm_seeds": 2,
    "space": {
        "extends": "spirals-mlp",
        "name": "own",
        "parameters": {
            "model.width": {"type": "int", "low": 4, "high": 9, "role": "nuisance"},
            "momentum": {"type": "float", "low": 0.1, "high": 0.9},
        },
    },
    "arms": {
        "static": {"baseline": True, "drop": ["model.width"]},
        "sine": {"training": {"oscillation": {"shape": "sine", "groups": "random"}}},
    },
}
AT_TWO_WIDTHS: dict[str, Any] = {
    **MAP,
    "grid": {"period": 1, "amplitude": 1, "learning_rate": 1, "model.width": 2},
    "seeds_per_point": 1,
    "space": {
        "extends": "spirals-mlp",
        "name": "widths",
        "parameters": {"model.width": {"type": "choice", "values": [4, 6], "role": "scientific"}},
    },
}


def measured(printed: str) -> dict[str, tuple[str, str]]:
    """What this run and the record are printed with, by metric."""
    rows = re.findall(r"^((?:train|validation|test) \w+) +(\S+) +(\S+)$", printed, re.MULTILINE)
    return {name.replace(" ", "_"): (here, recorded) for name, here, recorded in rows}


@pytest.fixture(scope="module")
def out(undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a study that was searched twice."""
    folder = tmp_path_factory.mktemp("out")
    studies.run(tiny_study(**UNTRACKED, **SEARCHED_TWICE), folder)
    return folder


@pytest.mark.parametrize("arm", ["static", "sine", "static_at_sine"])
@pytest.mark.parametrize("search", [1, 2])
def test_the_winner_ends_as_it_is_recorded(out: Path, arm: str, search: int) -> None:
    members = studies.analyse("tiny", out).members
    phase = "confirm" if search == 1 else "confirm.2"
    row = members[(members[keys.PHASE] == phase) & (members[keys.ARM] == arm)].iloc[0]
    done = dynloss_here("train", "--from", "tiny", "--arm", arm, "--search", search, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"arm {arm}, search {search}, seed {row[keys.SEED]}: " in done.stdout
    ends = measured(done.stdout)
    assert list(ends) == list(METRICS)
    for name, (here, recorded) in ends.items():
        assert float(here) == pytest.approx(float(row[name]), rel=1e-5)
        assert here == recorded


def test_the_arm_is_the_first_that_is_not_the_reference(out: Path) -> None:
    for study in ("tiny", out / "tiny", out / "tiny" / "study.yaml"):
        done = dynloss_here("train", "--from", study, "--out", out)
        assert done.stdout.startswith("winner of tiny, arm sine, search 1, seed 50000: ")


def test_a_difference_from_the_record_is_explained(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another number of networks in an ensemble, say; here the record is another."""
    whole = RecordedWinner.recorded

    def other(*arguments: Any) -> dict[str, float]:
        return {name: value + 0.01 for name, value in whole(*arguments).items()}

    monkeypatch.setattr(RecordedWinner, "recorded", other)
    done = dynloss_here("train", "--from", "tiny", "--out", out)
    assert "they differ: sums round in another order where networks train together" in done.stdout


def test_another_seed_of_the_confirmation_is_recorded_too(out: Path) -> None:
    ends = measured(dynloss_here("train", "--from", "tiny", "--seed", 50_001, "--out", out).stdout)
    assert all(here == recorded for here, recorded in ends.values())
    ends = measured(dynloss_here("train", "--from", "tiny", "--seed", 7, "--out", out).stdout)
    assert {recorded for _, recorded in ends.values()} == {"-"}


def test_options_replace_values_of_the_winner(out: Path) -> None:
    words = ("--lr", 0.5, "--width", 3, "--steps", 700, "--shape", "square", "--loss", "focal")
    done = dynloss_here("train", "--from", "tiny", *words, "--out", out)
    assert done.returncode == 0, done.stderr
    second, third = done.stdout.splitlines()[1:3]
    assert second == "but for lr 0.5, width 3, steps 700, shape square, loss focal"
    assert third.startswith("digits, mlp (width 3, depth 1), 700 steps, engine ")
    assert {recorded for _, recorded in measured(done.stdout).values()} == {"-"}


def test_a_study_of_several_settings_asks_for_one(tmp_path: Path) -> None:
    study = tiny_study(**UNTRACKED, **AT_TWO_WIDTHS)
    studies.run(study, tmp_path)
    done = dynloss_here("train", "--from", "tiny", "--out", tmp_path)
    assert done.returncode == 2
    assert "arm dynamical has no confirmed winner yet; finish it with `dynloss confirm tiny" in (
        done.stderr
    )
    studies.confirm(study, tmp_path, seeds=2, backend="inline")
    done = dynloss_here("train", "--from", "tiny", "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "dynloss: --setting: the study has a winner at each of 2 settings; choose one: "
        "model.width=4 or 6\n"
    )
    for width in (4, 6):
        words = ("--setting", f"model.width={width}", "--out", tmp_path)
        done = dynloss_here("train", "--from", "tiny", *words)
        assert f"mlp (width {width}, depth 1)" in done.stdout
        assert all(here == recorded for here, recorded in measured(done.stdout).values())
    for given, problem in (
        ("model.width=5", "no winner at model.width=5; choose one: model.width=4 or 6"),
        ("width=5", "'width=5' is not a setting of the study; use model.width, as in"),
    ):
        done = dynloss_here("train", "--from", "tiny", "--setting", given, "--out", tmp_path)
        assert (done.returncode, problem in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--arm", "cosine"), "--arm: 'cosine' is not an arm of tiny; use static, sine, static_at"),
        (("--search", "3"), "--search: 3 is not a search of tiny; use 1 to 2"),
        (("--setting", "model.width=4"), "is not a setting of the study; leave it out"),
        (("--seed", "-1"), "seed: -1 is negative"),
        (("--data", "digits"), "--data: the study of --from says the data; leave it out"),
        (("--arm", "static", "--amplitude", "3"), "period: missing for amplitude 3.0"),
        (("--static-tail", "9000"), "static_tail: 9000 is not within the run"),
    ],
)
def test_refusals(out: Path, words: tuple[str, ...], said: str) -> None:
    done = dynloss_here("train", "--from", "tiny", *words, "--out", out)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_what_names_part_of_a_study_needs_one(tmp_path: Path) -> None:
    for words, said in (
        (("--arm", "static"), "--arm: names part of a study; add --from STUDY"),
        (("--from", "digits", "--out", tmp_path), "holds no study; run it first"),
    ):
        done = dynloss_here("train", *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
