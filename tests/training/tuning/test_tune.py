"""The command: what it takes and refuses before anything starts."""

import json
import subprocess
import sys

import pytest

from tests.training.tuning.searches import INFO, ROOT
from training import tune
from training.config import TrainConfig
from training.tuning.config import TuneConfig


def test_neither_help_nor_search_needs_tensorflow():
    code = """
import sys
import training.cluster, training.tuning.search, training.tuning.results, training.tuning.space
sys.argv[1:] = ["--help"]
try:
    from training.tune import main
    main()
except SystemExit:
    assert not {"tensorflow", "keras"} & set(sys.modules), "TensorFlow was imported"
"""
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--space" in printed and "--train.model.filters" in printed


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_what_is_searched_for_is_what_decides_the_trainers_best_epoch(task, nuclei_records):
    from records.info import read_info
    from training.task import make_task

    config = TrainConfig(task=task)
    made = make_task(config, read_info(str(nuclei_records)))
    column, name = config.monitored
    assert column == made.monitored
    assert column.removeprefix("val_") in made.scores.values()
    assert made.title.startswith(name)


@pytest.mark.parametrize("settings", [{"trials": 0}, {"min_epochs": 0}, {"max_failures": 0}, {"seed": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}: expected at least [01], found"):
        TuneConfig(space="", **settings)


def command(monkeypatch, tmp_path, *flags):
    (tmp_path / "space.yaml").write_text("model.filters: [4, 8]")
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "info.json").write_text(INFO.to_json())
    arguments = [str(tmp_path / "records"), str(tmp_path / "search"), f"--space={tmp_path / 'space.yaml'}", *flags]
    monkeypatch.setattr(sys, "argv", ["tune", *arguments])
    return tune.main


def test_several_machines_are_refused_and_one_is_not(monkeypatch, tmp_path):
    main = command(monkeypatch, tmp_path, "--min_epochs=51")
    for workers, message in [
        (["one:1", "two:1"], "TF_CONFIG: expected one machine for a search, found 2; unset TF_CONFIG"),
        (["one:1"], "min_epochs: expected at most the 50 epochs"),  # as train.py, which takes one machine
    ]:
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
        with pytest.raises(ValueError, match=message):
            main()


def test_mistakes_leave_no_folder(monkeypatch, tmp_path):
    main = command(monkeypatch, tmp_path, "--min_epochs=51")
    with pytest.raises(ValueError, match="min_epochs: expected at most the 50 epochs"):
        main()
    (tmp_path / "space.yaml").write_text("filters: [4, 8]")
    with pytest.raises(ValueError, match="did you mean model.filters?"):
        main()
    (tmp_path / "records" / "info.json").unlink()
    (tmp_path / "space.yaml").write_text("model.filters: [4, 8]")
    with pytest.raises(ValueError, match="expected finished records"):
        main()
    assert not (tmp_path / "search").exists()


def test_the_space_must_be_given(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["tune", "records", "search"])
    with pytest.raises(SystemExit, match="2"):
        tune.main()
    assert "required: space" in capsys.readouterr().err


def test_without_a_terminal_the_trial_under_way_is_told_of_now_and_then(monkeypatch, capsys):
    now = iter([0.0, 59.0, 61.0, 61.0, 100.0, 122.0, 122.0])
    monkeypatch.setattr(tune.time, "monotonic", lambda: next(now))
    with tune._status() as show:
        for words in ("early", "due", "early again", "due again"):
            show(words)
    assert capsys.readouterr().out == "due\ndue again\n"
