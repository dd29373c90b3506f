"""What is left of a search: table, recipe, picture, and Optuna's study."""

import csv
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
import yaml
from rich.console import Console

from tests.training.tuning.searches import INFO, ROOT
from training.config import TrainConfig
from training.tuning.config import TuneConfig
from training.tuning.plot import plot_trials
from training.tuning.results import describe_end, describe_settings, short_names, show, trial_table, write_results
from training.tuning.space import Space, read_space
from training.tuning.study import open_study
from training.tuning.trial import SearchFolder, Trial, best_trial

FOLDER = SearchFolder(Path("runs/search"))  # of a length that does not depend on where tests run
SPACE = """
learning_rate: {low: 1e-4, high: 1e-1, log: true}
model.filters: [8, [8, 16, 32, 64, 128]]
loss.terms: [{bce: 1}, {bce: 1, dice: 2}]
optimizer.name: [adam, sgd]
schedule.name: [cosine, constant]
"""

LEFT = {"learning_rate": 0.001, "model.filters": 8, "loss.terms": {"bce": 1}, "optimizer.name": "adam"}
RIGHT = {"learning_rate": 0.05, "model.filters": [8, 16, 32, 64, 128], "loss.terms": {"bce": 1, "dice": 2}}
LEFT |= {"schedule.name": "cosine"}
RIGHT |= {"optimizer.name": "sgd", "schedule.name": "constant"}

TRIALS = [
    Trial(0, LEFT, "finished", [0.5, 0.75, 0.75, 0.7], 65.4),
    Trial(1, RIGHT, "pruned", [0.9], 3.0),
    Trial(2, RIGHT | {"learning_rate": 0.01}, "finished", [0.1, 0.8, math.nan], 4020),
    Trial(3, RIGHT, "failed", [], 1.0, "out of memory, sadly"),
    Trial(4, LEFT | {"learning_rate": 0.1}, "finished", [0.8], 9.9),
]


@pytest.fixture
def space(tmp_path) -> Space:
    (tmp_path / "space.yaml").write_text(SPACE)
    return read_space(tmp_path / "space.yaml", TrainConfig(epochs=4))


def test_the_best_epoch_is_the_first_of_the_highest_and_the_best_trial_has_finished():
    assert TRIALS[0].best == (0.75, 2)
    assert TRIALS[2].best == (0.8, 2)
    assert TRIALS[3].best is None
    assert Trial(0, {}, "running", [math.nan]).best is None
    assert best_trial(TRIALS) is TRIALS[2]  # the first of equals; what was pruned at 0.9 has not been seen to its end
    assert best_trial(TRIALS[1:2]) is None


def test_the_csv_has_a_row_per_trial(space, tmp_path):
    folder = SearchFolder(tmp_path / "search")
    write_results(folder, space, INFO, TRIALS)
    with folder.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row.values())[:6] for row in rows] == [
        ["0", "finished", "0.75", "2", "4", "65.4"],
        ["1", "pruned", "0.9", "1", "1", "3.0"],
        ["2", "finished", "0.8", "2", "3", "4020.0"],
        ["3", "failed", "", "", "0", "1.0"],
        ["4", "finished", "0.8", "1", "1", "9.9"],
    ]
    for row, trial in zip(rows, TRIALS, strict=True):
        for name, value in trial.settings.items():
            assert yaml.safe_load(row[name]) == value
        assert row["reason"] == trial.reason


def test_the_recipe_is_what_train_prints_for_it(space, tmp_path):
    folder = SearchFolder(tmp_path / "search")
    write_results(folder, space, INFO, TRIALS)
    text = folder.best.read_text()
    assert text.startswith(
        f"# Trial 2 of the search {folder.path}, the best of 5 (3 finished, 1 pruned, 1 failed).\n"
        "# Records: made-up, fingerprint 0123456789ab\n"
        "# Score:   val_dice_per_image 0.8000 at epoch 2 of 3\n"
        "# Searched: learning_rate 0.01, model.filters [8, 16, 32, 64, 128], loss.terms {bce: 1, dice: 2}, "
    )
    command = [sys.executable, "train.py", "--config", str(folder.best), "--print_config"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    content = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert yaml.safe_load(printed) == yaml.safe_load(content)
    assert printed.splitlines()[:8] == content.splitlines()[:8]


def test_without_a_finished_trial_there_is_no_recipe(space, tmp_path):
    folder = SearchFolder(tmp_path / "search")
    write_results(folder, space, INFO, [TRIALS[1], TRIALS[3]])
    assert folder.table.exists() and folder.plot.exists()
    assert not folder.best.exists()


def printed(table, width: int) -> list[list[str]]:
    """Returns the cells of the lines of a table, which are two spaces or more apart."""
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return [re.split(r"\s{2,}", line.strip()) for line in capture.get().splitlines()]


def test_the_table_has_the_best_first_and_tells_why_trials_failed(space):
    title, head, *rows = printed(trial_table(space, TRIALS, FOLDER, 180), 180)
    assert title == ["5 trials: runs/search/trials.csv"]
    assert head == ["trial", "Dice", "epoch", "time", "end", *short_names(space)]
    assert [row[0] for row in rows] == ["2", "4", "0", "1", "3"]
    assert rows[0][1:6] == ["0.8000", "2 of 3", "1 h 7 min", "finished", "0.01"]
    assert rows[0][6:8] == ["[8, 16, 32, 64, 128]", "{bce: 1, dice: 2}"]
    assert rows[2][1:5] == ["0.7500", "2 of 4", "1 min 5 s", "finished"]
    assert rows[4][1:3] == ["1 s", "failed: out of memory, sadly"]


def test_a_narrow_terminal_gets_the_settings_in_one_column(space):
    _, head, *rows = printed(trial_table(space, TRIALS[:1], FOLDER, 100), 100)
    assert head == ["trial", "Dice", "epoch", "time", "end", "settings"]
    words = " ".join([rows[0][-1], *(line for row in rows[1:] for line in row)])
    assert words == describe_settings(TRIALS[0])


def test_of_many_trials_the_best_are_shown(space):
    trials = [Trial(number, LEFT, "finished", [number / 30]) for number in range(30)]
    title, _, *rows = printed(trial_table(space, trials, FOLDER, 180), 180)
    assert title[0].startswith("the best 20 of 30 trials:")
    assert [int(row[0]) for row in rows] == list(range(29, 9, -1))


def test_names_are_short_where_they_stay_different(space):
    assert short_names(space) == ["learning_rate", "filters", "terms", "optimizer.name", "schedule.name"]


def test_lines_tell_what_is_tried_and_what_came_of_it(space):
    assert describe_settings(TRIALS[0]) == (
        "learning_rate 0.001, model.filters 8, loss.terms {bce: 1}, optimizer.name adam, schedule.name cosine"
    )
    assert [describe_end(space, trial, trial.number == 2) for trial in TRIALS[:4]] == [
        "finished: Dice 0.7500 at epoch 2 of 4, 1 min 5 s",
        "pruned behind epoch 1: Dice 0.9000 at epoch 1 of 1, 3 s",
        "finished: Dice 0.8000 at epoch 2 of 3, 1 h 7 min  best",
        "failed after 1 s: out of memory, sadly",
    ]
    assert [show(value) for value in (0.000123456, True, None, "adam")] == ["0.0001235", "true", "null", "adam"]


def test_optuna_gets_the_study_that_the_files_tell_of(space):
    study = open_study(TuneConfig(space="", min_epochs=1), space, TRIALS)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "COMPLETE"]
    assert study.best_value == 0.8
    assert study.trials[0].params["model.filters"] == "8"
    assert study.trials[0].intermediate_values == {1: 0.5, 2: 0.75, 3: 0.75, 4: 0.7}
    assert set(optuna.importance.get_param_importances(study, evaluator=_evaluator())) == set(LEFT)


def _evaluator():
    return optuna.importance.PedAnovaImportanceEvaluator()


# --- the picture


def drawn(space, trials, path, monkeypatch):
    """Returns the figure that is saved."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    plot_trials(space, trials, path)
    return figures[0]


def test_the_picture_has_a_line_per_trial_where_its_values_lie(space, tmp_path, monkeypatch):
    figure = drawn(space, TRIALS, tmp_path / "plot.png", monkeypatch)
    axis = figure.axes[0]
    points = [line.get_ydata() for line in axis.lines if line.get_marker() == "o"]
    # learning_rate 0.001 is a third of the way from 1e-4 to 1e-1; the first of two choices lies at a quarter.
    left = [1 / 3, 0.25, 0.25, 0.25, 0.25]
    assert sorted(len(each) for each in points) == [5, 5, 6, 6, 6]
    found = [each for each in points if len(each) == 6 and each[0] == pytest.approx(1 / 3)]
    np.testing.assert_allclose(found, [[*left, 0.0]])  # 0.75 is the lowest score
    np.testing.assert_allclose(points[-1], [2 / 3, 0.75, 0.75, 0.75, 0.75, 1.0])  # the best lies on top
    assert [path.name for path in tmp_path.glob("*.png")] == ["plot.png"]


def test_a_range_of_few_values_is_labelled_by_them(tmp_path, monkeypatch):
    (tmp_path / "space.yaml").write_text("global_batch_size: {low: 4, high: 32, step: 4}")
    space = read_space(tmp_path / "space.yaml", TrainConfig())
    figure = drawn(space, [], tmp_path / "plot.png", monkeypatch)
    labels = {text.get_text(): text.xy[1] for text in figure.axes[0].texts if text.get_text().isdigit()}
    assert labels == {str(4 * index): pytest.approx((index - 1) / 7) for index in range(1, 9)}


@pytest.mark.parametrize("number", [3, 6, 10, 11])
def test_no_label_of_the_picture_lies_on_another(tmp_path, monkeypatch, number):
    lines = [
        "learning_rate: {low: 1e-6, high: 1e-1, log: true}",
        "loss.terms: [{bce: 1}, {bce: 0.5, jaccard: 1, focal: 0.25, dice: 1, lovasz: 0.125, boundary: 0.1}]",
        "input.foreground_share: [null, 0.25, 0.5, 0.75]",
        "optimizer.lookahead: [true, false]",
        "model.filters: [8, 12, 16, 24, 32, 48, 64, [8, 16, 32, 64, 128]]",
        "model.deep_supervision: [true, false]",
        "early_stopping: {low: 3, high: 20}",
        "schedule: [{name: one_cycle, warmup_epochs: 0}, {name: exponential, decay_rate: 0.9, warmup_epochs: 2}]",
        "input.shuffle_mib: {low: 16, high: 4096, log: true}",
        "model.norm_momentum: {low: 0.9, high: 0.99}",
        "global_batch_size: {low: 1, high: 8, log: true}",
    ]
    (tmp_path / "space.yaml").write_text("\n".join(lines[:number]))
    space = read_space(tmp_path / "space.yaml", TrainConfig())
    settings = {setting.name: setting.extremes[-1] for setting in space.settings}
    trials = [Trial(0, settings, "finished", [0.9]), Trial(1, settings, "pruned", [0.5]), Trial(2, settings, "failed")]
    figure = drawn(space, trials, tmp_path / "plot.png", monkeypatch)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in (*figure.axes[0].texts, *figure.legends[0].get_texts())]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[:index]:
            assert not (box.x0 < other.x1 and other.x0 < box.x1 and box.y0 < other.y1 and other.y0 < box.y1)
