"""Figures are the same whatever backend, settings and fonts the user has chosen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from studies.analysis.figures.files import save_figure
from studies.analysis.figures.style import suite_style
from tests.studies.analysis.figures import figure

ROOT = Path(__file__).parents[3]

DRAW = """\
import os, sys
from pathlib import Path
asked, here = os.environ.get("MPLBACKEND"), os.getcwd()
from studies.analysis.figures.files import save_figure
from tests.studies.analysis.figures import figure
import matplotlib as mpl
assert "matplotlib.pyplot" not in sys.modules
assert (os.environ.get("MPLBACKEND"), os.getcwd()) == (asked, here)
save_figure(figure(), Path(sys.argv[1]), "figure")
"""

BAD = b"""\
text.usetex: True
font.family: serif
font.size: 31
axes.prop_cycle: cycler('color', ['r'])
axes.unicode_minus: False
mathtext.fontset: stix
lines.linewidth: 9
savefig.bbox: tight
savefig.dpi: 40
svg.fonttype: none
no.such.key: 1
axes.grid: perhaps
"""


def drawn(folder: Path, **environment: str) -> tuple[list[bytes], str]:
    """The files that a process of its own writes, which starts in `folder`; and what it says."""
    kept = {k: v for k, v in os.environ.items() if k not in {"MPLBACKEND", "MATPLOTLIBRC"}}
    environment = {**kept, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", DRAW, "out"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [path.read_bytes() for path in sorted((folder / "out").iterdir())], done.stderr


@pytest.mark.parametrize(
    ("backend", "settings", "by_name"),
    [
        ("nonsense", BAD, False),
        pytest.param(
            "module://matplotlib_inline.backend_inline",
            b"font.family: \xe9\xff\n",
            False,
            marks=pytest.mark.slow,
        ),
        pytest.param("tkagg", BAD, True, marks=pytest.mark.slow),
    ],
)
def test_a_process_with_other_settings_draws_the_same(
    backend: str, settings: bytes, by_name: bool, tmp_path: Path
) -> None:
    expected = [
        path.read_bytes() for path in sorted(save_figure(figure(), tmp_path / "a", "figure"))
    ]
    folder = tmp_path / "theirs"
    folder.mkdir()
    file = tmp_path / "their.rc" if by_name else folder / "matplotlibrc"
    file.write_bytes(settings)
    named = {"MATPLOTLIBRC": str(file)} if by_name else {}
    files, said = drawn(folder, MPLBACKEND=backend, **named)
    assert files == expected
    assert said == ""


def test_settings_changed_in_this_process_are_neither_followed_nor_lost(tmp_path: Path) -> None:
    plain = [path.read_bytes() for path in save_figure(figure(), tmp_path, "plain")]
    theirs = {"font.size": 31.0, "axes.unicode_minus": False, "svg.fonttype": "none"}
    with mpl.rc_context(theirs):
        assert [p.read_bytes() for p in save_figure(figure(), tmp_path, "theirs")] == plain
        assert {key: mpl.rcParams[key] for key in theirs} == theirs
        with suite_style():
            assert mpl.rcParams["font.size"] == 10
