"""What goes into a paper: numbers that are those of the summary, in names that LaTeX can read."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from studies.analysis.analyses import analyse
from studies.report.paper import write_paper
from tests.studies.report.made_studies import question, study_tables


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    kind = {"widths": (20, 50), "adaptive": False}
    members, curves = study_tables(**kind)
    analysis = analyse(members, curves, question(**kind))
    write_paper("my_study-2", analysis, tmp_path)
    return tmp_path


def test_numbers_are_those_of_the_verdicts(paper: Path) -> None:
    kind = {"widths": (20, 50), "adaptive": False}
    members, curves = study_tables(**kind)
    text = (paper / "numbers.tex").read_text()
    defined = dict(re.findall(r"\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}", text))
    assert len(defined) == text.count("\n"), "every name is of letters, and none comes twice"
    for verdict in analyse(members, curves, question(**kind)).verdicts:
        width = {"width 20": "TwoZero", "width 50": "FiveZero"}[verdict.label]
        own = f"myStudyTwoWidth{width}"
        assert float(defined[f"{own}Difference"]) == pytest.approx(
            verdict.test.difference, abs=6e-5
        )
        assert int(defined[f"{own}N"]) == verdict.test.n


def test_a_row_per_verdict_and_figures_as_pdf(paper: Path) -> None:
    table = (paper / "verdicts.tex").read_text()
    body = table.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert body.count(r"\\") == 2
    columns = re.findall(r"begin\{tabular\}\{(\w+)\}", table)[0]
    assert all(row.count("&") == len(columns) - 1 for row in body.strip().splitlines())
    figures = list(paper.glob("*.pdf"))
    assert figures
    assert all(path.read_bytes().startswith(b"%PDF") for path in figures)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_latex_reads_them(paper: Path) -> None:
    lines = [r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\input{numbers}"]
    lines += [r"$\myStudyTwoWidthTwoZeroDifference$ \input{verdicts}", r"\end{document}"]
    (paper / "paper.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    assert subprocess.run(command, cwd=paper, capture_output=True).returncode == 0
