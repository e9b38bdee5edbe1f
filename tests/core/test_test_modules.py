"""Tests share plainly named modules: what a test module holds is nobody else's."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"\btests(?:\.\w+)*(?:\.| import )test_\w+")  # in an import, or in a string


def test_no_module_names_a_test_module() -> None:
    for module in ("test_run", "test_run.table"):
        assert NAMED.search(f"from tests.studies import {module}")
        assert NAMED.search(f"patch('tests.studies.runner.{module}', table)")
    named = {path: NAMED.findall(path.read_text()) for path in TESTS.rglob("*.py")}
    assert not {str(path): modules for path, modules in named.items() if modules}
