"""Commands that are printed can be pasted where this program was started."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dynloss_core.own_command import own_command

ROOT = Path(__file__).parents[2]
_TYPED = re.compile(r"dynloss (?=[a-z]+\b)(?!checkpoint |command\b)")
_IN_FILES = {"studies/report/study_report.py", "studies/plain_script/script.py"}


def environment(folder: Path) -> Path:
    """A folder of scripts with `dynloss` and `python` in it."""
    scripts = folder / "own env" / "bin"
    scripts.mkdir(parents=True)
    for name in ("dynloss", "python"):
        (scripts / name).write_text("#!/bin/sh\n")
        (scripts / name).chmod(0o755)
    return scripts


def printed(
    started: str, scripts: Path, path: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> str:
    """What `dynloss ui` is, in a folder, after a start from there with a PATH."""
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(scripts))
    monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(folder)
    return own_command("ui")


def test_what_is_on_the_path_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = environment(tmp_path)
    for started in (str(scripts / "dynloss"), "/x/studies/__main__.py", "/x/bin/pytest", "dynloss"):
        assert printed(started, scripts, str(scripts), monkeypatch, tmp_path) == "dynloss ui"
    link = tmp_path / "links" / "dynloss"  # as pipx has it
    link.parent.mkdir()
    link.symlink_to(scripts / "dynloss")
    assert printed(str(link), scripts, str(link.parent), monkeypatch, tmp_path) == "dynloss ui"


def test_what_is_not_on_the_path_goes_by_its_shortest_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = environment(tmp_path)
    script, elsewhere = str(scripts / "dynloss"), tmp_path / "some" / "very" / "deep" / "folder"
    other = environment(tmp_path / "other")
    for path in ("", str(other)):
        typed = printed(script, scripts, path, monkeypatch, tmp_path)
        assert typed == "'own env/bin/dynloss' ui"
        assert printed(script, scripts, path, monkeypatch, scripts) == "./dynloss ui"
        started_by_code = printed("/x/bin/pytest", scripts, path, monkeypatch, tmp_path)
        assert started_by_code == "'own env/bin/dynloss' ui"
    elsewhere.mkdir(parents=True)
    monkeypatch.setattr("os.path.relpath", lambda _: f"{'../' * 40}dynloss")
    assert printed(script, scripts, "", monkeypatch, elsewhere) == f"'{script}' ui"


def test_a_module_is_started_as_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts, started = environment(tmp_path), "/x/studies/__main__.py"
    typed = printed(started, scripts, "", monkeypatch, tmp_path)
    assert typed == "'own env/bin/python' -m studies ui"
    (scripts / "dynloss").unlink()
    assert printed(started, scripts, str(scripts), monkeypatch, tmp_path) == "python -m studies ui"


def test_it_starts_the_suite_from_the_shell_that_it_was_printed_in() -> None:
    """As `python -m studies`, where PATH has this Python and no `dynloss`, or neither."""
    code = "import sys; sys.argv[0] = 'studies/__main__.py'; from dynloss_core.own_command import "
    code += "own_command; print(own_command('--version'))"
    without = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=without,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    typed = done.stdout.strip()
    again = subprocess.run(
        ["/bin/sh", "-c", typed], env=without, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert again.stdout.startswith("dynloss ")


def texts(tree: ast.Module) -> list[tuple[int, str]]:
    """Strings of a module that are neither docstrings nor shown by `--help`."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.keyword) and node.arg in ("epilog", "help", "source"):
            skipped |= {id(inner) for inner in ast.walk(node.value)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in skipped
    ]


def test_no_message_names_a_command_by_itself() -> None:
    """Files do, and so do helps: they are documentation."""
    named = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for package in ("dynloss_core", "search_spaces", "studies")
        for path in sorted((ROOT / package).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in _IN_FILES and "templates" not in path.parts
        for line, text in texts(ast.parse(path.read_text()))
        if _TYPED.search(text)
    ]
    assert not named, "\n".join(named)
