"""What the wheel and the sdist hold, and that every file that says a version says the same."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("dynloss_core", "search_spaces", "studies")
MEASURED = "studies/results/*/members.parquet"


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def packed(kind: str) -> set[str]:
    """The files that hatchling would pack into a wheel or sdist, by their paths in it."""
    module = pytest.importorskip(f"hatchling.builders.{kind}")
    builder = getattr(module, f"{kind.title()}Builder")(str(ROOT))
    return {file.distribution_path for file in builder.recurse_included_files()}


@pytest.fixture(scope="module")
def sources() -> set[str]:
    """The files of the checkout that git does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_has_every_file_of_the_packages_but_results(sources: set[str]) -> None:
    wheel = packed("wheel")
    assert wheel == {
        name
        for name in sources
        if name.startswith(tuple(f"{package}/" for package in PACKAGES))
        and not name.startswith("studies/results/")
    }
    kinds = {Path(name).suffix for name in wheel}
    assert {".py", ".typed", ".yaml", ".json", ".j2", ".css", ".js", ".sh", ".md"} <= kinds


def test_the_sdist_has_every_file_but_the_networks_of_results(sources: set[str]) -> None:
    left_out = {name for name in sources if fnmatch(name, MEASURED)}
    assert left_out
    assert packed("sdist") == sources - left_out


def test_every_version_is_the_same() -> None:
    version = project()["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(
        r"^## (\d\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert (version, str(cited["date-released"])) == released[0]
    assert cited["version"] == version
    pages = [*(ROOT / "studies" / "deploy").iterdir(), ROOT / "docs" / "how-to" / "install.md"]
    named = {
        found
        for page in pages
        for found in re.findall(r"\bdynloss[:-](\d+\.\d+\.\d+)", page.read_text())
    }
    assert named == {version}


def test_every_extra_is_on_the_page_that_lists_them() -> None:
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    listed = re.findall(r"^\| `(\w[\w-]*)` \|", page, re.MULTILINE)
    assert set(listed) == set(project()["optional-dependencies"])
