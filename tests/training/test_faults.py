"""Laws of a run whose numbers, disk or validation fail."""

import dataclasses
import math
import os
import signal

import pytest
import tensorflow as tf
from tensorflow.python.ops import gen_summary_ops

from model.loss_config import LossConfig
from records.checked import CheckedShards
from tests.training.keyed_records import CONFIG, assert_same_run
from tests.training.runs import refuse, start, without_timings
from training import loop
from training.checkpoints import Checkpoints
from training.preemption import Preempted
from training.run_folder import RunFolder


def test_a_loss_that_lost_a_term_is_another_setting(records, uninterrupted):
    config = dataclasses.replace(CONFIG, loss=LossConfig({"bce": 1.0}))
    refuse(r"loss.terms.dice: 1.0 there, None here", records[0], uninterrupted[0].path, config, records[1])


def test_weights_that_are_not_finite_reach_neither_checkpoint_nor_model(records, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "learning_rate", lambda *_: math.nan)
    config = dataclasses.replace(CONFIG, global_batch_size=12)  # one step, whose loss is of the weights before it
    run = RunFolder(tmp_path / "run")
    with pytest.raises(FloatingPointError, match="weights are no longer finite in epoch 1 behind step 1; lower"):
        start(records[0], run.path, config, records[1])
    assert not run.model.exists()
    assert not list(run.path.glob("checkpoints/*"))


def test_a_full_disk_for_tensorboard_ends_no_run(records, uninterrupted, tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.OutOfRangeError(None, None, "No space left on device")

    monkeypatch.setattr(tf.summary, "scalar", full)
    monkeypatch.setattr(gen_summary_ops, "flush_summary_writer", full)
    state, told = start(records[0], tmp_path / "run", CONFIG, records[1])
    assert sum("cannot be written (No space left on device); training goes on" in line for line in told) == 1
    for row, wanted in zip(without_timings(state.history), without_timings(uninterrupted[1].history), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_a_model_that_cannot_be_written_leaves_no_half_of_it(records, tmp_path, monkeypatch):
    def cut(model, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.keras.Model, "save", cut)
    with pytest.raises(OSError, match="No space left"):
        start(records[0], tmp_path / "run", CONFIG, records[1])
    assert not list((tmp_path / "run").glob("*.tmp*"))


def test_a_full_disk_takes_the_place_of_no_other_error(records, tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.OutOfRangeError(None, None, "No space left on device")

    def fail(checkpoints):
        raise ValueError("the checkpoint")

    monkeypatch.setattr(gen_summary_ops, "flush_summary_writer", full)
    monkeypatch.setattr(Checkpoints, "save", fail)
    with pytest.raises(ValueError, match="^the checkpoint$"):
        start(records[0], tmp_path / "run", CONFIG, records[1])
    with tf.summary.create_noop_writer().as_default():  # nothing is left of the run's writer
        tf.summary.scalar("x", 1.0, step=0)


# --- validation


def test_a_kill_in_validation_costs_validation_alone(records, uninterrupted, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    config = dataclasses.replace(CONFIG, checkpoint_minutes=1e9)
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(loop.Epochs, "_validate", kill)
        start(records[0], run.path, config, records[1])
    state, told = start(records[0], run.path, config, records[1])
    assert told[0].startswith("going on from epoch 1, step 3 (")  # of three
    assert_same_run(run, state, uninterrupted)


def losing_validation(monkeypatch, *losses: float) -> None:
    """Makes the validation losses of the first epochs these, and their Dice the best there is."""
    validate, left = loop.Epochs._validate, list(losses)

    def lose(epochs, batches):
        scores, agreed = validate(epochs, batches)
        if left:
            scores |= {"val_loss": left.pop(0), "val_dice_per_image": 1.0}
        return scores, agreed

    monkeypatch.setattr(loop.Epochs, "_validate", lose)


def test_an_epoch_whose_validation_is_not_a_number_is_no_best_one(records, tmp_path, monkeypatch):
    losing_validation(monkeypatch, math.nan)
    state, told = start(records[0], tmp_path / "run", CONFIG, records[1])
    assert state.best_epoch == 1
    assert state.best_score == state.history[1]["val_dice_per_image"] < 1
    assert sum("validation's loss is nan, so this epoch is no best one" in line for line in told) == 1


def test_a_run_without_any_number_in_validation_leaves_no_model(records, tmp_path, monkeypatch):
    losing_validation(monkeypatch, math.nan, math.inf)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(FloatingPointError, match="finite in no epoch, so there is no model; lower --learning_rate"):
        start(records[0], run.path, CONFIG, records[1])
    assert not run.model.exists()


def test_gradients_that_overflow_at_every_step_end_the_run(records, tmp_path, monkeypatch):
    monkeypatch.setattr("training.optimizers.Updater.is_stuck", True)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(FloatingPointError, match="gradients overflow in 16 bit at every step .epoch 1.; train with"):
        start(records[0], run.path, CONFIG, records[1])


# --- a check of the shards that takes longer than the first epoch


def test_a_run_asked_to_stop_while_it_waits_for_the_check_stops(records, tmp_path, monkeypatch):
    def slow(checked, file, report):
        while True:
            report(0)  # raises when the check is left

    def ask(line):
        if line.startswith("checking the shards"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(CheckedShards, "is_whole", slow)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Preempted, match="in epoch 1 behind step 3, before all shards were checked"):
        start(records[0], run.path, CONFIG, records[1], tell=ask)
    assert not list(run.path.glob("checkpoints/*"))
