"""The command that scores another tool's predictions: files, report, comparison, mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluation.compare
import evaluation.report.__main__
import evaluation.score
from tests.evaluation.foreign.truth import write_masks, write_truth


def run(monkeypatch, folder: Path, *arguments, main=evaluation.score.main) -> None:
    """Runs a command in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    main()


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    """A folder with records, masks and, by the command in a process of its own, masks-scores; read only."""
    folder = tmp_path_factory.mktemp("command")
    generator = np.random.default_rng(0)
    truth = {f"scan{number}": (generator.random((20, 30)) > 0.5).astype(np.uint8) for number in range(4)}
    write_truth(folder / "records", truth)
    write_masks(
        folder / "masks", {key: 255 * (mask ^ (generator.random(mask.shape) > 0.9)) for key, mask in truth.items()}
    )
    code = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('evaluation.score', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        "    assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "records", "masks", "--pictures", "1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "Dice per image" in done.stdout and "report    masks-scores/report.html" in done.stdout
    return folder


def test_the_command_writes_what_test_py_does_without_tensorflow(judged):
    tables = {"metrics.json", "per_image.csv", "per_group.csv", "confusion.csv"}
    files = {path.name for path in (judged / "masks-scores").iterdir()}
    assert files == {*tables, "evaluated.json", "report.html", "result-image"}
    assert len(list((judged / "masks-scores" / "result-image").iterdir())) == 3
    evaluated = json.loads((judged / "masks-scores" / "evaluated.json").read_text())
    assert evaluated["predictions"]["name"] == "masks" and len(evaluated["predictions"]["sha256"]) == 64
    assert evaluated["records"]["fingerprint"] == "f" * 64 and evaluated["settings"]["missing"] == "error"
    page = (judged / "masks-scores" / "report.html").read_text()
    for text in ("<h1>masks</h1>", "split test", evaluated["predictions"]["sha256"], "<dt>nucleus</dt>"):
        assert text in page
    facts = page.partition('id="evaluated"')[2].partition("<details>")[0]
    for text in ("None", "SHA-256 of the model", "threshold", "<dt>run</dt>"):
        assert text not in facts


def test_its_folder_is_reported_and_compared_like_a_runs(judged, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other-scores"
    run(monkeypatch, judged, "records", "masks", "--out", other, "--pictures", "0")
    first, second = (json.loads((folder / "evaluated.json").read_text()) for folder in (judged / "masks-scores", other))
    assert first["predictions"] == second["predictions"]
    (other / "report.html").unlink()
    run(monkeypatch, tmp_path, other, main=evaluation.report.__main__.main)
    assert "<h1>masks</h1>" in (other / "report.html").read_text()
    capsys.readouterr()
    run(monkeypatch, tmp_path, judged / "masks-scores", other, main=evaluation.compare.main)
    assert "dice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: expected a folder of masks or a CSV file, found nothing of this name"),
        (
            ["masks", "--out", "masks"],
            "out: expected a folder apart from the predictions, found masks and masks, o",
        ),
        (["masks", "--out", "masks/scores"], "found masks/scores and masks, one in the other; choose another --out"),
        (["masks", "--out", "."], "one in the other; choose another --out"),
        (["masks", "--split", "val"], r"expected a split that has examples \(test\), found 'val'"),
        (
            ["found.csv", "--instances"],
            "instances: expected a folder of PNG files with it, found found.csv, whose",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_written(judged, monkeypatch, arguments, message):
    (judged / "found.csv").write_text("ImageId,EncodedPixels\n")
    before = sorted(judged.rglob("*"))
    with pytest.raises(ValueError, match=message) as error:
        run(monkeypatch, judged, "records", *arguments)
    assert "\n" not in str(error.value)
    assert sorted(judged.rglob("*")) == before


def test_unlabelled_records_are_no_truth(tmp_path, monkeypatch):
    write_truth(tmp_path / "records", dict.fromkeys(["one", "two"], np.zeros((4, 6), np.uint8)), labeled=False)
    with pytest.raises(ValueError, match="records: expected labelled records, the truth, found some without masks"):
        run(monkeypatch, tmp_path, "records", "masks")
