"""Waiting for input is measured, shown, and advice on it fits the settings."""

import dataclasses
import re
import time

import numpy as np
import pytest
import tensorflow as tf

from records.cache import choose_cache
from tests.training.keyed_records import CONFIG, with_input
from tests.training.runs import start
from training import run_input
from training.run_input import RunInput
from training.workers import Workers


def test_waiting_for_input_is_in_the_history_in_tensorboard_and_in_the_epochs_line(uninterrupted):
    run, state, told = uninterrupted
    waits = [row["input_wait"] for row in state.history]
    assert all(0 <= wait <= 1 for wait in waits)
    values = {}
    for path in run.tensorboard.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == "epoch/input_wait":
                    values[event.step] = float(tf.make_ndarray(value.tensor))
    assert values == pytest.approx({1: waits[0], 2: waits[1]})
    lines = [line for line in told if "images/s" in line]
    assert [f"waiting for input {wait:.0%}" in line for line, wait in zip(lines, waits, strict=True)] == [True, True]


def test_a_slow_input_is_waited_for_and_advised_about(records, tmp_path, monkeypatch):
    fast = run_input.train_batches

    def slow(*args, **how):
        def late(batch):
            with tf.control_dependencies([tf.py_function(lambda: time.sleep(1.0), [], [])]):
                return {name: tf.identity(value) for name, value in batch.items()}

        return fast(*args, **how).map(late)

    monkeypatch.setattr(run_input, "train_batches", slow)
    # Without checkpoints within an epoch, while which input would catch up.
    config = dataclasses.replace(CONFIG, checkpoint_minutes=99)
    state, told = start(records[0], tmp_path / "run", config, records[1])
    # The first epoch's time is that of compiling.
    wait = state.history[1]["input_wait"]
    assert 0.3 < wait < 1
    assert f"waiting for input took {wait:.0%} of the time; what helps: " in told[-1]


CACHE, WEIGHTS = object(), np.ones(12)


@pytest.mark.parametrize(
    ("settings", "cache", "weights", "remedies"),
    [
        ({}, None, None, ["cache_mib", "cache_file_mib", "data_service"]),
        ({"threads": 1}, None, None, ["threads", "cache_mib", "cache_file_mib", "data_service"]),
        ({"foreground_share": 0.5}, None, WEIGHTS, ["cache_mib", "cache_file_mib"]),
        ({}, CACHE, None, []),
        ({"crop": 32}, None, None, ["data_service"]),
        ({"crop": 32, "threads": 2, "class_balance": 1.0}, None, WEIGHTS, ["threads"]),
        ({"data_service": "host:1", "threads": 2}, None, None, ["threads"]),
    ],
)
def test_advice_is_given_above_a_tenth_and_fits_the_settings(records, tmp_path, settings, cache, weights, remedies):
    folder, info = records
    info = dataclasses.replace(info, height=2047, width=2048)  # 12 examples of 16 MiB but for a line
    files = info.shard_files(str(folder), ["train"])
    config = with_input(cache_mib=5, **settings)
    data = RunInput(info, config, Workers(tf.distribute.get_strategy()), files, [], weights, cache, None, 0)
    assert list(data.remarks(0.1)) == []
    (line,) = data.remarks(0.1049)
    assert line.startswith("waiting for input took 10% of the time; what helps: ")
    assert re.findall(r"--input\.(\w+)", line) == remedies
    assert ("more workers" in line) == ("data_service" in settings)
    assert ("more cores" in line) == ("data_service" not in settings)
    assert ("--input.threads null" in line) == ("threads" in settings)
    # Advice that is taken is accepted, and does what it says.
    for name, value in re.findall(r"--input\.(\w+_mib) (\d+)", line):
        advised = dataclasses.replace(config.input, **{name: int(value)})
        assert choose_cache(info, 12, advised, tmp_path)[0] == ("file" if "file" in name else "memory")
        lower = dataclasses.replace(config.input, **{name: int(value) - 1})
        assert choose_cache(info, 12, lower, tmp_path)[0] == "none"
    if "data_service" in remedies:
        dataclasses.replace(config.input, data_service="host:1")
