"""The notebook runs from its first cell to its last, offline."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_in_ten_cells(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 10
    assert not any(cell.outputs for cell in code), "clear the outputs before committing"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [
        out.text for cell in code for out in cell.outputs if out.output_type == "stream" and out.name == "stdout"
    ]
    assert printed == [], "nothing prints unless asked"
    assert "development accuracy" in code[2].outputs[0].data["text/html"]
    assert code[-1].outputs[0].data["text/html"].count("<tr") == 13
