"""What a user sees of a running study."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dynloss_core import keys
from studies.definition.study import Study
from studies.messages import PlainConsole, say, starting
from studies.runner.panel import StudyPanel
from studies.runner.progress import StudyProgress
from studies.search.confirmation import Winner
from studies.storage.status_file import PhaseStatus, StudyStatus
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import tiny_study

POINT = {"period": 844, "amplitude": 9.96, "learning_rate": 2.272}
WINNERS = {
    arm: Winner(arm, 3, POINT, value) for arm, value in (("dynamical", 0.9117), ("static", 0.8))
}


def asking(**changes: object) -> Study:
    question = "Does a dynamical loss beat the static one on spirals, each at its best? Long story."
    return tiny_study(description=question, **changes)


def status(*, arms: int = 2, searches: int = 1) -> StudyStatus:
    names = ["dynamical", "static", *(f"arm{number}" for number in range(arms - 2))]
    phases = tuple(
        PhaseStatus(phase if search == 1 else f"{phase}.{search}", arm, done, wanted, "trials")
        for search in range(1, searches + 1)
        for phase, done, wanted in ((keys.SEARCH, 53, 120), (keys.CONFIRM, 0, 20))
        for arm in names
    )
    blocks = {
        f"search-static-{number:05d}": {"networks": 1.0, "node": "node7"} for number in range(6)
    }
    return StudyStatus(
        name="tiny", mode="optimize", objective="validation_accuracy", networks=1000, trained=430.0,
        is_driven=True, machine="here", networks_per_minute=120.0, seconds_left=285.0,
        blocks=blocks, failures={"search-static-00009": "gone"}, phases=phases, summary=None,
    )  # fmt: skip


def shown(panel: StudyPanel, width: int, height: int = 40) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, soft_wrap=True)
    with console.capture() as said:
        console.print(panel)
    return said.get().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_says_all_at_any_width(width: int) -> None:
    panel = StudyPanel(asking(), Path("results/tiny"), Console(file=io.StringIO()))
    panel.show(status(), keys.SEARCH, WINNERS)
    lines = shown(panel, width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    for expected in ("tiny", "each at its best?", "results/tiny", "dynloss status tiny --watch",
                     "dynloss ui", "search", "43%", "4m45s left", "53 of 120 trials", "0 of 20 on fresh seeds",
                     "best validation accuracy 0.912 at period 844, amplitude 9.96, learning_rate 2.272",
                     "search-static-00003 on node7 and 2 more", "1 block"):  # fmt: skip
        assert expected in words
    assert "Long story" not in words
    assert any(set(line) >= {"━"} and "43%" in line for line in lines), "the bar has room"


def test_searches_are_counted_together() -> None:
    panel = StudyPanel(asking(), Path("results/tiny"), Console(file=io.StringIO()))
    panel.show(status(searches=5), f"{keys.CONFIRM}.3", WINNERS)
    words = " ".join(" ".join(shown(panel, 80)).split())
    assert "confirmation 3 of 5" in words
    assert "265 of 600 trials, 0 of 100 on fresh seeds" in words


def test_many_arms_fit_a_low_terminal() -> None:
    panel = StudyPanel(asking(), Path("results/tiny"), Console(file=io.StringIO()))
    panel.show(status(arms=8), keys.SEARCH, WINNERS)
    lines = shown(panel, 80, height=24)
    assert len(lines) <= 24
    assert "on fresh seeds, best 0.912" in " ".join(" ".join(lines).split())


def test_it_stands_before_anything_trains() -> None:
    panel = StudyPanel(asking(), Path("results/tiny"), Console(file=io.StringIO()))
    words = " ".join(shown(panel, 60))
    assert "starting" in words
    assert "each at its best?" in words
    panel.at("writing results")
    assert "writing results" in " ".join(shown(panel, 60))


def terminal(monkeypatch: pytest.MonkeyPatch) -> PlainConsole:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    console = PlainConsole(stderr=True)
    console.file = io.StringIO()
    return console


def test_a_study_in_a_terminal_leaves_its_lines_and_no_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = terminal(monkeypatch)
    monkeypatch.setattr("studies.messages.notes", console)
    study = tiny_study()
    session = session_of(study, tmp_path)
    with StudyPanel(study, session.folder.path, console) as panel:
        with StudyProgress(study, panel=panel) as progress:
            session.progress = progress
            progress.status = session.status
            say("the cluster is busy")
            finish(session)
        words = " ".join(" ".join(shown(panel, 80)).split())
    assert "6 of 6 trials, 3 of 3 on fresh seeds" in words
    assert "100%" in words
    assert "running" not in words
    assert "left" not in words
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("the cluster is busy\n") == 1
    assert "\x1b[?25h" in text, "the cursor is back"


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    study, said = asking(), io.StringIO()
    session = session_of(study, tmp_path)
    console = Console(file=said, width=40)
    with StudyPanel(study, session.folder.path, console) as panel:
        for _ in range(2):  # the second round of a study
            with StudyProgress(study, panel=panel) as progress:
                session.progress = progress
                finish(session)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("tiny: Does a dynamical loss")
    assert lines[1] == f"folder     {session.folder.path}"
    assert lines[2].startswith("watch      dynloss status tiny --watch --out ")
    assert sum(line.startswith("folder") for line in lines) == 1
    assert any(line.startswith("search ") and "%" in line for line in lines)
    assert "\x1b" not in said.getvalue()


def test_a_quiet_study_shows_its_failures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, study = terminal(monkeypatch), asking()
    session = session_of(study, tmp_path)
    panel = StudyPanel(study, session.folder.path, console, quiet=True)
    with panel, StudyProgress(study, panel=panel) as progress:
        session.progress = progress
        progress.status = session.status
        finish(session)
        progress.say("block search-static-00000 failed")
    assert not panel.is_shown
    assert console.file.getvalue() == "block search-static-00000 failed\n"  # type: ignore[attr-defined]


def test_a_terminal_says_at_once_what_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal(monkeypatch)
    monkeypatch.setattr("studies.messages.notes", console)
    with starting("x[/y]", quiet=True):
        pass
    assert not console.file.getvalue()  # type: ignore[attr-defined]
    with starting("x[/y]"):
        pass
    assert "starting x[/y]" in console.file.getvalue()  # type: ignore[attr-defined]


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal(monkeypatch)
    panel = StudyPanel(asking(), Path("results/tiny"), console, quiet=True)
    panel.show(status(), keys.SEARCH, WINNERS)
    console.print(panel)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    colours = re.findall(r"\x1b\[([0-9;]*)m", text)
    assert set(colours) <= {"0", "1", "2", ""}, "bold and dim are no colours"
