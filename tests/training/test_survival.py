"""Laws of a run that is asked to stop, cannot write, loses its numbers, or is not alone."""

import contextlib
import dataclasses
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from model.config import ModelConfig
from tests.training.keyed_records import CONFIG, TRAINING, assert_same_run, opened
from tests.training.runs import refuse, start
from training.checkpoints import Checkpoints
from training.preemption import EXIT_CODE, Preempted, Preemption
from training.run_folder import RunFolder
from training.state import TrainState

ROOT = Path(__file__).parents[2]


# --- asked to stop


def ask(at: str, done: int, number: signal.Signals = signal.SIGTERM):
    """Returns a progress that sends this process a signal when so many examples under that label are done.

    The run stops behind the step that follows.
    """

    @contextlib.contextmanager
    def progress(label, total):
        def report(count, words=""):
            if label.startswith(at) and count == done:
                os.kill(os.getpid(), number)

        yield report

    return progress


@pytest.mark.parametrize(
    ("label", "done", "where"),
    [pytest.param("epoch 1", 4, (1, 2), marks=pytest.mark.slow), ("epoch 2", 4, (2, 2))],
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_as_if_nothing_had_been(
    records, uninterrupted, tmp_path, label, done, where
):
    folder, info = records
    config = dataclasses.replace(CONFIG, checkpoint_minutes=1e9)
    run, before = RunFolder(tmp_path / "run"), signal.getsignal(signal.SIGTERM)
    message = f"stopped as asked .SIGTERM. in epoch {where[0]} behind step {where[1]}, saved; the same command goes on"
    with pytest.raises(Preempted, match=message):
        start(folder, run.path, config, info, progress=ask(label, done))
    assert signal.getsignal(signal.SIGTERM) == before
    state, told = start(folder, run.path, config, info)
    assert told[0].startswith(f"going on from epoch {where[0]}, step {where[1]} (")
    assert_same_run(run, state, uninterrupted)


@pytest.mark.slow
def test_a_run_asked_to_stop_while_it_validates_keeps_the_epochs_steps(records, uninterrupted, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Preempted, match="in epoch 1 behind step 3, saved"):  # of three
        start(records[0], run.path, CONFIG, records[1], progress=ask("epoch 1", 12))
    assert not run.history.exists()
    state, told = start(records[0], run.path, CONFIG, records[1])
    assert told[0].startswith("going on from epoch 1, step 3 (")
    assert_same_run(run, state, uninterrupted)


def test_ctrl_c_saves_too_and_ends_with_the_code_of_an_interrupted_process(records, uninterrupted, tmp_path):
    config, before = dataclasses.replace(CONFIG, checkpoint_minutes=1e9), signal.getsignal(signal.SIGINT)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Preempted, match="stopped as asked .Ctrl-C. in epoch 2 behind step 2, saved") as stop:
        start(records[0], run.path, config, records[1], progress=ask("epoch 2", 4, signal.SIGINT))
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) == before
    state, _ = start(records[0], run.path, config, records[1])
    assert_same_run(run, state, uninterrupted)


def test_a_second_ctrl_c_and_one_before_there_is_anything_to_save_stop_at_once():
    with Preemption(signal.SIGINT) as preemption:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        preemption.deferred = True
        os.kill(os.getpid(), signal.SIGINT)
        assert preemption.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stays_ignored_where_it_is():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Preemption(signal.SIGINT) as preemption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not preemption.asked
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_command_ends_with_a_code_of_its_own(records, tmp_path):
    settings = ["--epochs=1000000", "--global_batch_size=4", "--model.depth=1", "--model.filters=2"]
    process = subprocess.Popen(
        [sys.executable, "train.py", str(records[0]), str(tmp_path / "run"), "--early_stopping=null", *settings],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = ""
    while "images/s" not in output:  # the first epoch's line
        line = process.stdout.readline()
        assert line, output
        output += line
    process.send_signal(signal.SIGTERM)
    output += process.communicate(timeout=60)[0]
    assert process.returncode == EXIT_CODE == 75
    assert re.search(r"stopped as asked \(SIGTERM\) in epoch \d+ behind step \d, saved; the same command", output)
    assert "Traceback" not in output


def test_a_second_signal_is_taken_too():
    with Preemption() as preemption:
        preemption.deferred = True
        assert not preemption.asked
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            assert preemption.asked


def test_asked_to_stop_before_there_is_anything_to_save_it_stops_at_once():
    with Preemption(), pytest.raises(Preempted, match="before the first step; the same command goes on"):
        os.kill(os.getpid(), signal.SIGTERM)


# --- a full disk


def parts() -> dict:
    return {"weights": tf.Variable(tf.random.stateless_normal([64, 1024], [1, 2])), "state": TrainState()}


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_and_nothing_half_made(tmp_path):
    saved = parts()
    checkpoints = Checkpoints(tmp_path / "checkpoints", **saved)
    saved["state"].epoch = 1
    checkpoints.save()
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    saved["state"].epoch = 2
    saved["weights"].assign_add(tf.ones_like(saved["weights"]))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot be written .*ckpt-1, is whole; make room"):
            checkpoints.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    found = parts()
    assert Checkpoints(tmp_path / "checkpoints", **found).restore([].append).endswith("ckpt-1")
    assert found["state"].epoch == 1
    np.testing.assert_array_equal(found["weights"], parts()["weights"])
    checkpoints.save()  # there is room again
    assert Checkpoints(tmp_path / "checkpoints", **found).restore([].append)
    assert found["state"].epoch == 2


# --- a loss that is not finite


def test_a_loss_that_is_not_finite_names_the_steps_examples(records, tmp_path):
    # The second step's weights are of the order of the rate: their products are infinite.
    model = ModelConfig(depth=1, filters=2, norm="none")
    config = dataclasses.replace(CONFIG, learning_rate=1e30, model=model)
    with pytest.raises(FloatingPointError, match=r"the loss of step 1 is (nan|inf); .*examples: \w\d, ") as caught:
        start(records[0], tmp_path / "run", config, records[1])
    keys = str(caught.value).rpartition(": ")[2].split(", ")
    with opened(records, tmp_path / "other") as data:
        first, second = (list(data.batch_keys(0, step)) for step in (0, 1))
    assert keys == second
    assert len({*first, *second}) == 8
    assert {*first, *second} <= set(TRAINING)


# --- company


def test_a_second_process_on_a_run_folder_is_refused(records, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    handle = os.open(run, os.O_RDONLY)  # a lock belongs to the opened file, so this is as good as another process
    fcntl.flock(handle, fcntl.LOCK_EX)
    refuse("another process is training into this RUN folder; wait", records[0], run, CONFIG, records[1])
    os.close(handle)
    start(records[0], run, dataclasses.replace(CONFIG, epochs=1), records[1])
    start(records[0], run, dataclasses.replace(CONFIG, epochs=1), records[1])  # nothing is left of the lock


def test_a_run_killed_before_its_settings_were_written_is_begun(records, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json.tmp").write_text("{")
    state, _ = start(records[0], tmp_path / "run", dataclasses.replace(CONFIG, epochs=1), records[1])
    assert state.finished
