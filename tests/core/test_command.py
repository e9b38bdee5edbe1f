"""The command begins only where all of the suite is its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def started(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python on these words, with a folder that comes before the suite on its path."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["studies.py", "studies/__init__.py", "search_spaces/__init__.py"])
def test_a_module_in_the_way_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit('it was imported')")
    done = started(tmp_path, "-P", "-c", "from dynloss_core.command import main; main()")
    assert done.returncode == 2
    assert done.stderr.startswith(f"dynloss: {file} is imported instead of ")
    assert len(done.stderr.splitlines()) == 1


def test_python_m_studies_names_it_too(tmp_path: Path) -> None:
    for name in ("search_spaces", "dynloss_core"):
        folder = tmp_path / name
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
        done = started(folder, "-m", "studies", "--help")
        assert done.returncode == 2
        assert str(folder / name / "__init__.py") in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_mere_folder_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    done = started(tmp_path, "-P", "-c", "from dynloss_core.command import main; main()", "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout
