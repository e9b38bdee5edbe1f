"""A study's report: one self-contained HTML file, to open anywhere and to send to colleagues."""

from studies.report.page.document import (
    Command,
    Estimate,
    Finding,
    Picture,
    Report,
    Section,
    TrialTable,
)
from studies.report.page.html import render

__all__ = [
    "Command",
    "Estimate",
    "Finding",
    "Picture",
    "Report",
    "Section",
    "TrialTable",
    "render",
]
