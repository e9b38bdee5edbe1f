"""The notebook in `docs/`, run by a kernel as a reader would."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs").glob("*.ipynb"))


def output_of(cell: nbformat.NotebookNode) -> dict[str, str]:
    """What a cell shows, by kind."""
    (shown,) = [each for each in cell.outputs if each.output_type == "execute_result"]
    return dict(shown.data)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path)
    notebook = nbformat.read(tmp_path / path.name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept"
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    shown = [output_of(cell) for cell in notebook.cells if cell.cell_type == "code"]
    networks, result, means, trials, figures, _, sentence, script = shown
    assert f"{int(networks['text/plain'])} networks: " in result["text/plain"]
    assert "difference" in result["text/plain"]
    assert "<b>small (optimize)" in result["text/html"]
    assert "confirm.2" in means["text/plain"], "both searches were confirmed"
    assert "validation_accuracy" in trials["text/plain"]
    assert figures["text/html"].count("<img") >= 3
    assert "difference" in sentence["text/plain"]
    assert (tmp_path / "scripts" / script["text/plain"].strip("'")).is_file()
