"""The command: tables, files, refusals."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from evaluation import compare
from evaluation.comparison import folds, pairs, plot
from inference.postprocess import Steps
from tests.evaluation.comparison.judging import judged, table_of, write


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    compare.main()


def made_runs(tmp_path) -> list[str]:
    """Returns three runs on 20 images: the second is better, the third is the first with noise."""
    generator = np.random.default_rng(0)
    tp = generator.integers(50, 90, 20)
    runs = []
    for name, gain in (("first", 0), ("better", 8), ("noisy", generator.integers(-2, 3, 20))):
        cells = np.stack([tp + gain, np.full(20, 10), 100 - tp - gain], 1)
        metrics = {"recall": float(cells[:, 0].mean() / 100), "recall_ci95": [0, 1], "objects": None}
        runs.append(write(tmp_path / name, table_of([tuple(row) for row in cells.tolist()]), **metrics))
    return runs


def test_the_command_says_what_is_better_and_writes_tables_and_a_plot(tmp_path, monkeypatch, capsys):
    runs = made_runs(tmp_path)
    run(monkeypatch, *runs, "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert "better than first on 20 of 20 images, worse on 0, equal on 0" in said
    table = pd.read_csv(tmp_path / "out/comparison.csv")
    assert table["verdict"].tolist() == ["better", "better", "can't tell", "can't tell"]
    assert table["score"].tolist() == ["dice per image", "dice pooled"] * 2
    np.testing.assert_allclose(table["value"] - table["first"], table["difference"])
    assert ((table["low"] <= table["difference"]) & (table["difference"] <= table["high"])).all()
    images = pd.read_csv(tmp_path / "out/images.csv")
    mean = images[f"{runs[1]} - {runs[0]}"].mean()
    assert mean == pytest.approx(table["difference"][0])
    metrics = pd.read_csv(tmp_path / "out/metrics.csv")
    assert metrics["metric"].tolist() == ["num_examples", "threshold", "recall"]
    assert (tmp_path / "out/comparison.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.csv",
        "images.csv",
        "metrics.csv",
        "comparison.png",
    }


def test_masks_that_were_made_in_other_ways_are_told(tmp_path, monkeypatch, capsys):
    runs = made_runs(tmp_path)
    for name, steps in (("first", Steps()), ("better", Steps(0.4, min_size=20))):
        content = {"postprocess": {"ship": dataclasses.asdict(steps)}}
        (tmp_path / name / "eval/test/evaluated.json").write_text(json.dumps(content))
    run(monkeypatch, *runs[:2])
    said = capsys.readouterr().out
    assert "first  masks: threshold 0.5\nbetter  masks: threshold 0.4, parts from 20 px on\n" in said
    shutil.copy(tmp_path / "first/eval/test/evaluated.json", tmp_path / "noisy/eval/test")
    run(monkeypatch, runs[0], runs[2])
    assert "masks:" not in capsys.readouterr().out


def test_folds_give_a_mean_with_its_interval(tmp_path, monkeypatch, capsys):
    runs = []
    for fold, tp in enumerate((60, 70, 80)):
        table = table_of([(tp, 0, 100 - tp)] * 2).assign(source_id=[f"{fold}a", f"{fold}b"])
        runs.append(write(tmp_path / f"cv{fold}", table, f"fold{fold}", fold, recall=tp / 100))
    run(monkeypatch, "--folds", *runs, "--out", tmp_path / "out")
    assert "3 folds tell little" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out/folds.csv")
    mean = table[(table["run"] == "mean of folds") & (table["score"] == "dice pooled")].iloc[0]
    assert mean["value"] == pytest.approx(np.mean([120 / 160, 140 / 170, 160 / 180]))
    assert mean["images"] == 6
    assert (tmp_path / "out/folds.png").read_bytes().startswith(b"\x89PNG")


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
    runs = made_runs(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    run(monkeypatch, *runs)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_run_alone_and_the_same_twice_are_refused(tmp_path, monkeypatch):
    (first, *_) = made_runs(tmp_path)
    with pytest.raises(ValueError, match="runs: expected at least 2, found 1"):
        run(monkeypatch, first)
    with pytest.raises(ValueError, match="runs: expected each once"):
        run(monkeypatch, first, f"{first}/")


def test_a_score_that_is_not_there_is_refused(tmp_path, monkeypatch):
    for score in ("f3", "tp"):
        with pytest.raises(
            ValueError, match=rf"score: expected one that .* has for each image \(dice\), found {score}"
        ):
            run(monkeypatch, *made_runs(tmp_path / score), "--score", score)


def test_comparing_imports_no_tensorflow(tmp_path):
    code = (
        "import sys; from evaluation import compare; compare.main(); "
        "assert not {'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *made_runs(tmp_path)], check=True, capture_output=True)


def test_each_dot_of_a_plot_is_an_image_and_equal_ones_lie_apart():
    values = np.array([0.0, 0.1, 0.1, 0.1, 0.3, np.nan])
    one, two = judged("one", np.zeros(6)), judged("two", values)
    figure = plot.draw_comparison([pairs.compare(one, two, "object_f2", 0)], one, "object_f2")
    (dots,) = figure.axes[1].collections
    places = np.asarray(dots.get_offsets())
    np.testing.assert_allclose(places[:, 0], [0, 0.1, 0.1, 0.1, 0.3])
    assert len({tuple(place) for place in places.tolist()}) == 5
    assert np.abs(places[:, 1]).max() < 0.4  # within its row


def test_a_plot_of_folds_has_the_mean_where_it_is():
    each = [
        folds.judge_fold(judged(name, np.array(values)), "object_f2", 0)
        for name, values in (("a", [0.2, 0.4]), ("b", [0.6, 0.8]))
    ]
    (axis,) = plot.draw_folds(each, "object_f2").axes
    places = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(places, [0.3, 0.7, 0.5])
