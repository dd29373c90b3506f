"""Laws of a search that is killed or asked to stop: it goes on as if nothing had been."""

import dataclasses
import fcntl
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.training.tuning.searches import (
    CONFIG,
    ROOT,
    SPACE,
    imagined_trials,
    run_search,
    start_command,
    use_fake,
    wait_for,
    without_times,
)
from training.preemption import EXIT_CODE
from training.tuning.process import is_held
from training.tuning.trial import SearchFolder, read_trials, write_trial

FLAGS = (
    "--min_epochs=1",
    "--train.epochs=4",
    "--train.global_batch_size=8",
    "--train.checkpoint_minutes=0",
)  # of CONFIG


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    use_fake(monkeypatch)


class Killed(BaseException):
    """As far as files go, the process was killed."""


def kill_at(monkeypatch, number: int):
    """Ends this process's work at the write of this number: before it for even numbers, behind it for odd ones."""
    replace, count = Path.replace, itertools.count(1)

    def write(path, target):
        due = next(count) == number
        if due and number % 2 == 0:
            raise Killed
        replace(path, target)
        if due:
            raise Killed

    monkeypatch.setattr(Path, "replace", write)


def test_a_search_killed_over_and_over_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, trials=6, pruner="hyperband")
    whole, _ = run_search(tmp_path / "whole", config=config)
    kills = 0
    for number in itertools.cycle([1, 4, 7, 3, 8, 5, 2, 13, 6]):
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            try:
                trials, _ = run_search(tmp_path / "killed", config=config)
                break
            except Killed:
                kills += 1
    assert kills > 10
    assert without_times(trials) == without_times(whole)
    tables = [(tmp_path / name / "trials.csv").read_text() for name in ("killed", "whole")]
    timeless = [re.sub(r"(,\d+),\d+\.\d,", r"\1,,", table) for table in tables]
    assert timeless[0] == timeless[1]
    recipes = [(tmp_path / name / "best.yaml").read_text().partition("\n")[2] for name in ("killed", "whole")]
    assert recipes[0] == recipes[1]


def test_killed_with_its_trial_it_goes_on_with_the_same_trial_and_proposes_the_same(tmp_path):
    """Behind ten trials, where proposals follow from the results before."""
    config, folder = dataclasses.replace(CONFIG, trials=13, pruner="none"), SearchFolder(tmp_path / "killed")
    run_search(folder.path, config=dataclasses.replace(config, trials=1))
    whole = imagined_trials(tmp_path / "space.yaml", config)
    assert without_times(read_trials(folder)) == whole[:1]
    for trial in whole[:11]:
        write_trial(folder, trial)
    process = start_command(folder.path, "--trials=13", *FLAGS, "--pruner=none", pace=0.3)
    history = folder.run(11).history
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) == 3)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not is_held(folder.run(11).path))
    under_way = read_trials(folder)[-1]
    assert (under_way.number, under_way.state) == (11, "running")
    trials, told = run_search(folder.path, config=config)
    assert told[0] == "going on: 11 trials have ended, trial 11 under way"
    assert without_times(trials) == without_times(whole)
    assert re.search(r"^begins behind epoch 0\nbegins behind epoch [23]\nfinished", folder.log(11).read_text())
    assert trials[11].seconds > under_way.seconds


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, EXIT_CODE, r"stopped as asked \(SIGTERM\) in trial 0; the same command goes on"),
        (signal.SIGINT, 128 + signal.SIGINT, "stopped; the same command goes on"),
    ],
)
def test_asked_to_stop_it_lets_the_trial_save(tmp_path, number, code, words):
    process = start_command(tmp_path / "search", *FLAGS, pace=0.3)
    folder = SearchFolder(tmp_path / "search")
    wait_for(folder.run(0).history.exists)
    # Ctrl-C reaches all processes of a terminal, SIGTERM whom it is sent to.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == code
    assert re.search(words, output)
    assert "Traceback" not in output
    assert re.search(r"^begins behind epoch 0\nstopped as asked\n$", folder.log(0).read_text())
    assert [trial.state for trial in read_trials(folder)] == ["running"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not learn that its parent is gone")
def test_a_trial_whose_search_was_killed_saves_and_ends(tmp_path):
    process = start_command(tmp_path / "search", *FLAGS, pace=0.3)
    folder = SearchFolder(tmp_path / "search")
    wait_for(folder.run(0).history.exists)
    process.kill()
    process.wait()
    wait_for(lambda: "stopped as asked" in folder.log(0).read_text())


def test_a_trial_that_a_killed_search_has_left_is_waited_for(tmp_path):
    one, two = (dataclasses.replace(CONFIG, trials=trials) for trials in (1, 2))
    run_search(tmp_path / "search", config=one)
    left = SearchFolder(tmp_path / "search").run(1).path
    left.mkdir()
    handle = os.open(left, os.O_RDONLY)  # a lock belongs to the opened file, as of another process
    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(1.0, os.close, [handle]).start()
    trials, told = run_search(tmp_path / "search", config=two)
    assert trials[1].state == "finished"
    assert any("a process that a killed search has left trains into it; waiting for its end" in line for line in told)


def test_the_command_shows_a_table_and_what_to_do_next(tmp_path):
    space = f"{SPACE}optimizer: [{{name: adam}}, {{name: adamw, weight_decay: 0.01}}]"
    process = start_command(
        tmp_path / "search", "--trials=3", "--train.epochs=3", "--train.global_batch_size=8", space=space
    )
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    folder = SearchFolder(tmp_path / "search")
    best = max(read_trials(folder), key=lambda trial: trial.scores[-1])
    assert re.search(
        rf"best       trial {best.number}, validation Dice {best.scores[-1]:.4f} at epoch 3: .*best.yaml", output
    )
    assert f"next       python test.py {folder.run(best.number).path} {tmp_path / 'records'} --split val" in output
    assert folder.plot.exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)  # several trainings, each in a process that loads TensorFlow
def test_trials_of_the_real_trainer_killed_with_their_search_end_as_if_nothing_had_been(nuclei_records, tmp_path):
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1e-3, high: 1e-2, log: true}\nmodel.filters: [2, 4]")
    settings = ["--train.global_batch_size=4", "--train.model.depth=1", "--train.epochs=3", "--train.deterministic"]

    def command(folder):
        arguments = [str(nuclei_records), str(folder), f"--space={tmp_path / 'space.yaml'}", "--trials=2", *settings]
        return subprocess.Popen(
            [sys.executable, "-m", "training.tune", *arguments], cwd=ROOT, text=True, stdout=-1, process_group=0
        )

    whole = command(tmp_path / "whole")
    assert "python test.py" in whole.communicate()[0]
    folder = SearchFolder(tmp_path / "killed")
    killed = command(folder.path)
    wait_for(folder.run(1).history.exists, 200)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert read_trials(folder)[-1].state == "running"
    resumed = command(folder.path)
    assert "trial 1 under way" in resumed.communicate()[0]
    assert resumed.returncode == 0
    trials = read_trials(folder)
    assert without_times(trials) == without_times(read_trials(SearchFolder(tmp_path / "whole")))
    assert [trial.state for trial in trials] == ["finished", "finished"]
    assert folder.run(1).model.exists() and not folder.run(1).checkpoints.exists()
