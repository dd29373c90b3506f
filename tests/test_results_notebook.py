"""The notebook about results runs from top to bottom, on whatever was evaluated, and is stored as it should be."""

import os
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from preprocess.config import Splits
from preprocess.synthetic import SyntheticConfig, write_clouds
from records.info import read_info
from tests.conftest import make_records
from tests.evaluation.analysis.making import judge_run, write_choice
from tests.evaluation.comparison.judging import write
from tests.test_notebook import code_cells, has_figure, printed

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "results_analysis.ipynb"


@pytest.fixture
def run_notebook(monkeypatch):
    """(RUN folders, records folder) -> the executed notebook; raises what a cell raises."""

    def run(runs: list[Path], records: Path) -> nbformat.NotebookNode:
        monkeypatch.setenv("RUNS", os.pathsep.join(map(str, runs)))
        monkeypatch.setenv("RECORDS", str(records))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        path = {"metadata": {"path": str(NOTEBOOK.parent)}}
        return NotebookClient(notebook, timeout=60, kernel_name="python3", resources=path).execute()

    return run


def every_drawing_is_a_figure(notebook: nbformat.NotebookNode) -> bool:
    drawings = [cell for cell in code_cells(notebook) if ".draw_" in cell.source]
    return len(drawings) == 15 and all(has_figure(cell) for cell in drawings)


@pytest.mark.slow  # three evaluations and a kernel
def test_several_runs_and_ways_come_side_by_side(nuclei_records, tmp_path, run_notebook):
    info = read_info(str(nuclei_records))
    first = judge_run(tmp_path / "first", nuclei_records, info)
    judge_run(tmp_path / "first", nuclei_records, info, "test-tta", threshold=0.4)
    second = judge_run(tmp_path / "second", nuclei_records, info, threshold=0.6)
    write_choice(first, ["nucleus"])
    notebook = run_notebook([first, second], nuclei_records)
    assert every_drawing_is_a_figure(notebook)
    said = printed(notebook)
    assert [name in said for name in ("first/test: 5 images", "first/test-tta: 5", "second/test: 5")] == [True] * 3
    assert "2 of 2 others compared with first/test on the same images" in said
    assert "5 of 5 images measured" in said and "5 images have one in training" in said


def test_one_evaluation_of_which_little_was_measured_is_enough(nuclei_records, tmp_path, run_notebook):
    run = judge_run(tmp_path / "run", nuclei_records, read_info(str(nuclei_records)))
    folder = run / "eval" / "test"
    for path in (folder / "calibration.csv", folder / "confusion.csv", folder / "evaluated.json", run / "config.json"):
        path.unlink()
    for picture in (folder / "result-image").iterdir():
        picture.unlink()
    table = pd.read_csv(folder / "per_image.csv")
    table[["source_id", "group", "dice", "tp", "fp", "fn"]].to_csv(folder / "per_image.csv", index=False)
    notebook = run_notebook([run], nuclei_records)
    assert every_drawing_is_a_figure(notebook)
    said = printed(notebook)
    assert "There is one evaluation alone" in said and "Calibration was not measured." in said
    assert "hashes of these images and of training are not known" in said


@pytest.mark.slow  # a kernel again
def test_it_runs_on_classes_that_overlap(tmp_path, run_notebook):
    write_clouds(tmp_path / "raw", SyntheticConfig(images=24, seed=1))
    make_records("clouds", tmp_path / "raw", tmp_path / "records", size=32, splits=Splits(0.5, 0.2, 0.3))
    run = judge_run(tmp_path / "run", tmp_path / "records", read_info(str(tmp_path / "records")))
    notebook = run_notebook([run], tmp_path / "records")
    assert every_drawing_is_a_figure(notebook)
    assert "Fish: " in printed(notebook)


@pytest.mark.slow  # a kernel again
def test_a_classifier_is_told_that_it_is_not_for_it(nuclei_records, tmp_path, run_notebook):
    answers = pd.DataFrame({"source_id": ["a"], "group": ["a"], "probability": [0.7], "truth": [1]})
    write(tmp_path / "gate", answers)
    with pytest.raises(CellExecutionError, match="answers of a classifier, which this is not for"):
        run_notebook([tmp_path / "gate"], nuclei_records)


def test_it_is_stored_whole_small_and_without_traces():
    notebook, text = nbformat.read(NOTEBOOK, as_version=4), NOTEBOOK.read_text()
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    assert every_drawing_is_a_figure(notebook)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert len(text) < 1_800_000
    assert not re.search(
        r"/(home|root|tmp|work|Users)/|iopub\.|\d{4}-\d\d-\d\dT", re.sub(r'"image/png": ".*"', "", text)
    )
    assert "nuclei/test: 60 images, Dice per image 0.9" in printed(notebook)
