"""The notebook runs from top to bottom, and is stored as it should be."""

import re
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pytest
from nbclient import NotebookClient

from tests.conftest import make_records

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "exploratory_data_analysis.ipynb"


def read_notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def has_figure(cell: nbformat.NotebookNode) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell.outputs)


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.text for cell in code_cells(notebook) for output in cell.outputs if "text" in output)


@pytest.fixture
def run_notebook(monkeypatch):
    """(records folder) -> the executed notebook; raises what a cell raises."""

    def run(records: Path) -> nbformat.NotebookNode:
        monkeypatch.setenv("RECORDS", str(records))
        notebook = read_notebook()
        path = {"metadata": {"path": str(NOTEBOOK.parent)}}
        return NotebookClient(notebook, timeout=60, kernel_name="python3", resources=path).execute()

    return run


def write_scans(folder: Path) -> None:
    """Three CTs of four slices, a block of "lung" in each."""
    for number in range(3):
        scan = np.random.default_rng(number).integers(-1000, 400, (24, 24, 4)).astype(np.int16)
        lungs = np.zeros_like(scan, np.uint8)
        lungs[4:10, 6:18, :3] = 1
        for name, voxels in (("ct_scans", scan), ("lung_mask", lungs)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / name / f"scan{number}.nii.gz")


def every_drawing_is_a_figure(notebook: nbformat.NotebookNode) -> bool:
    drawings = [cell for cell in code_cells(notebook) if "draw_" in cell.source]
    return len(drawings) == 9 and all(has_figure(cell) for cell in drawings)


def test_it_runs_on_nuclei(nuclei_records, run_notebook):
    notebook = run_notebook(nuclei_records)
    assert every_drawing_is_a_figure(notebook)
    assert "24 examples of 24 files, stored at 64 x 64 pixels, classes background, nucleus" in printed(notebook)
    assert "24 records measured" in printed(notebook)


def test_it_runs_on_scans(tmp_path, run_notebook):
    write_scans(tmp_path / "raw")
    make_records("ct", tmp_path / "raw", tmp_path / "records", size=24)
    notebook = run_notebook(tmp_path / "records")
    assert every_drawing_is_a_figure(notebook)
    assert "12 examples of 3 files" in printed(notebook)
    assert "cannot tell" in printed(notebook)  # three patients


def test_it_runs_on_a_plan_alone_and_says_so(nuclei_raw, tmp_path, run_notebook):
    make_records("nuclei", nuclei_raw, tmp_path, size=64, plan_only=True, quota="1-9:100")
    notebook = run_notebook(tmp_path)
    assert every_drawing_is_a_figure(notebook)
    assert "no finished records here, so no pictures and no pixels" in printed(notebook)


def test_it_is_stored_whole_small_and_without_traces():
    notebook, text = read_notebook(), NOTEBOOK.read_text()
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    assert every_drawing_is_a_figure(notebook)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in _outputs(notebook))
    assert len(text) < 1_500_000
    assert not re.search(
        r"/(home|root|tmp|work|Users)/|iopub\.|\d{4}-\d\d-\d\dT", re.sub(r'"image/png": ".*"', "", text)
    )
    assert "../data/nuclei: 598 examples" in printed(notebook)


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]
