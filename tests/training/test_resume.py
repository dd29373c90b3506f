"""A run that is killed and continued, against one that was left alone."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

from tests.training.events import step_losses
from training.state import TrainState

ROOT = Path(__file__).parents[2]
TIMINGS = {"images_per_second", "input_wait"}
STEPS = 14 // 2
SETTINGS = [
    "--epochs=3",
    "--global_batch_size=2",
    "--deterministic",
    "--checkpoint_minutes=0",
    "--schedule.plateau_patience=1",
    "--schedule.warmup_epochs=1",
    "--model.depth=2",
    "--model.deep_supervision",
    "--optimizer.average=ema",
    "--optimizer.accumulate=2",
    "--model.filters=4",
    "--model.dropout=0.2",
    "--model.noise=0.1",
    "--augment.affine=1.0",
]


def start(records: Path, run: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "train.py", str(records), str(run), *SETTINGS],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def saved_state(run: Path) -> TrainState:
    """Returns the state in the latest checkpoint."""
    state = TrainState()
    tf.train.Checkpoint(state=state).restore(tf.train.latest_checkpoint(str(run / "checkpoints"))).expect_partial()
    return state


def checkpoints_made(run: Path) -> int:
    numbers = [int(path.stem.rpartition("-")[2]) for path in (run / "checkpoints").glob("ckpt-*.index")]
    return max(numbers, default=0)


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in TIMINGS} for row in csv.DictReader(file)]


def kill_behind(checkpoints: int, records: Path, run: Path) -> TrainState:
    """Trains and kills the process when so many checkpoints are there; returns where it stood."""
    process = start(records, run)
    deadline = time.monotonic() + 200
    while checkpoints_made(run) < checkpoints:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return saved_state(run)


@pytest.mark.slow
def test_a_run_killed_twice_continues_bit_for_bit(nuclei_records, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(nuclei_records, whole))
    for epoch in (1, 2):
        # A checkpoint a step, before validation and behind it: in the middle of the second and of the third epoch.
        state = kill_behind(epoch * (STEPS + 2) + 3, nuclei_records, killed)
        assert (state.epoch, state.finished) == (epoch, False)
        assert 0 < state.step < STEPS
    output = finish(start(nuclei_records, killed))
    assert f"going on from epoch 3, step {state.step} " in output
    expected = step_losses(whole / "tensorboard")
    found = step_losses(killed / "tensorboard")
    assert sorted(expected) == list(range(3 * STEPS))
    assert found == expected
    assert history(killed) == history(whole)
    one, two = saved_state(killed), saved_state(whole)
    for name in ("epoch", "step", "best_score", "best_epoch", "plateau_wait", "plateau_scale", "finished"):
        assert getattr(one, name) == getattr(two, name), name
    reader = {
        run: tf.train.load_checkpoint(tf.train.latest_checkpoint(str(run / "checkpoints"))) for run in (whole, killed)
    }
    names = [name for name in reader[whole].get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    assert len(names) > 50
    for name in names:
        value = reader[whole].get_tensor(name)
        assert value.tobytes() == reader[killed].get_tensor(name).tobytes(), name
