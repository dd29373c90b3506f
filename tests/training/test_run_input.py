"""Laws of a run's input: however it is read, weighted and divided between devices, a run is the same."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from records.config import InputConfig
from records.info import read_info
from records.service import NOT_PROMISED
from tests.training.events import step_losses
from tests.training.keyed_records import (
    FOREGROUND,
    IN_FILE,
    IN_MEMORY,
    STREAMED,
    VALIDATION,
    assert_same_run,
    epoch_keys,
    keys_of,
    opened,
    with_input,
    write_records,
)
from tests.training.runs import interrupt_at, refuse, start
from training import run_input
from training.config import MAY_CHANGE
from training.devices import choose_strategy
from training.run_folder import RunFolder
from training.run_input import distribute
from training.workers import Workers

# --- however records are read


@pytest.mark.parametrize(("settings", "where"), [(IN_MEMORY, "memory"), (IN_FILE, "file")])
def test_a_run_with_a_cache_equals_one_without(records, uninterrupted, tmp_path, settings, where):
    state, told = start(records[0], tmp_path / "run", with_input(**settings), records[1])
    assert uninterrupted[2][0].split()[:2] == ["cache", "none:"]
    assert told[0].split()[:2] == ["cache", f"{where}:"]
    assert_same_run(RunFolder(tmp_path / "run"), state, uninterrupted)
    assert not (tmp_path / "run" / "cache").exists()


@pytest.mark.parametrize(
    ("begun", "gone_on"),
    [
        pytest.param(IN_FILE, {**IN_MEMORY, "threads": 1, "autotune_mib": 1}, marks=pytest.mark.slow),
        (IN_MEMORY, {**STREAMED, "prefetch": 0, "skip_damaged": True}),
        pytest.param({**STREAMED, "threads": 2}, {**IN_FILE, "prefetch": 5}, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_goes_on_reading_in_another_way_equals_an_uninterrupted_one(
    records, uninterrupted, tmp_path, begun, gone_on
):
    folder, info = records
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        start(folder, run.path, with_input(**begun), info, progress=interrupt_at(1))
    assert run.cache.exists() == (begun == IN_FILE)
    state, told = start(folder, run.path, with_input(**gone_on), info)
    assert told[0].startswith("going on from epoch 2, step 1 (")
    assert_same_run(run, state, uninterrupted)
    assert not run.cache.exists()
    run.cache.mkdir()  # as if it had been killed at its very end
    start(folder, run.path, with_input(**gone_on), info)
    assert not run.cache.exists()


def test_the_file_of_an_interrupted_run_is_used_again_and_deleted_at_the_end(records, tmp_path):
    config, cache = with_input(**IN_FILE), tmp_path / "run" / "cache"
    with pytest.raises(KeyboardInterrupt), opened(records, tmp_path / "run", config):
        raise KeyboardInterrupt
    # Not to be had from the records.
    np.load(cache / "image.npy", mmap_mode="r+")[:] = 77
    with opened(records, tmp_path / "run", config) as data:
        assert (next(iter(data.training_batches(0, 0)))["image"].numpy() == 77).all()
    assert not cache.exists()


CHANGES = {
    "shuffle_mib": 1,
    "cache_mib": 7,
    "cache_file_mib": 7,
    "autotune_mib": 7,
    "threads": 1,
    "prefetch": 0,
    "fold": None,  # these records have none: refused before the RUN folder is looked at
    "crop": 4,
    "foreground_crops": 0.5,
    "foreground_share": 0.5,
    "class_balance": 0.5,
    "skip_damaged": True,
    "data_service": "localhost:1",
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(InputConfig)])
def test_settings_that_change_the_examples_are_refused_by_name_and_others_taken(records, uninterrupted, name):
    folder, info = records
    run, _, _ = uninterrupted
    settings = {**STREAMED, name: CHANGES[name]} | ({"crop": 4} if name == "foreground_crops" else {})
    if f"input.{name}" in MAY_CHANGE or name == "fold":
        _, told = start(folder, run.path, with_input(**settings), info)
        assert told[-1].startswith("this run has finished")
    else:
        refuse(rf"input.{name}: [\w.]+ there, {CHANGES[name]} here", folder, run.path, with_input(**settings), info)


# --- weights


@pytest.mark.parametrize("cache", [STREAMED, IN_MEMORY])
@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ({}, 3),
        ({"foreground_share": 0.5}, 6),
        ({"foreground_share": 1.0}, 12),
        # 3 examples with nuclei and 9 without any count as two kinds: each is half of an epoch.
        ({"class_balance": 1.0}, 6),
        ({"class_balance": 0.0}, 3),
    ],
)
def test_an_epoch_holds_the_stated_share_of_foreground(records, tmp_path, cache, weighting, expected):
    with opened(records, tmp_path / "run", with_input(**cache, **weighting)) as data:
        for epoch in range(3):
            assert sum(key in FOREGROUND for key in epoch_keys(data, epoch)) == expected


@pytest.mark.parametrize("weighting", [{"foreground_share": 0.5}, {"class_balance": 1.0}])
def test_a_weighted_run_is_another_and_records_that_do_not_tell_classes_take_no_run_folder(
    records, uninterrupted, tmp_path, weighting
):
    config = with_input(**IN_MEMORY, **weighting)
    state, _ = start(records[0], tmp_path / "run", config, records[1])
    assert np.isfinite(state.history[1]["loss"])
    assert step_losses(tmp_path / "run" / "tensorboard") != step_losses(uninterrupted[0].tensorboard)
    info = write_records(tmp_path / "records", drop=("classes",))
    refuse("expected the column 'classes', which --input", tmp_path / "records", tmp_path / "other", config, info)
    assert not (tmp_path / "other").exists()


# --- devices and other machines


CACHES = {"none": STREAMED, "memory": IN_MEMORY, "file": IN_FILE}


def first_images(records, run: Path, strategy: tf.distribute.Strategy, settings: dict) -> np.ndarray:
    """Returns the images of the batches that all devices together get, from the middle of an epoch on."""
    with opened(records, run, with_input(**settings)) as data:
        batches = itertools.islice(distribute(Workers(strategy), data.training_batches(1, 1)), 7)
        return np.concatenate(
            [part for batch in batches for part in strategy.experimental_local_results(batch["image"])]
        )


def test_batches_are_the_same_when_they_are_brought_to_a_device_ahead_of_time(records, tmp_path, monkeypatch):
    one, cpus = tf.distribute.get_strategy(), tf.config.list_logical_devices("CPU")
    expected = first_images(records, tmp_path / "run", one, STREAMED)
    named, prefetch_to_device = [], tf.data.experimental.prefetch_to_device

    def spied(name, size):
        named.append(name)
        return prefetch_to_device(name, size)

    # The host stands for a GPU.
    monkeypatch.setattr(tf.config, "list_logical_devices", {"GPU": cpus}.get)
    monkeypatch.setattr(tf.data.experimental, "prefetch_to_device", spied)
    np.testing.assert_array_equal(first_images(records, tmp_path / "run", one, STREAMED), expected)
    assert named == [cpus[0].name]


def save_images(folder: Path, out: Path) -> None:
    """Saves what one device and two get; for a process whose CPU is not in use yet."""
    strategies = {2: choose_strategy(2)[0], 1: tf.distribute.get_strategy()}
    records = folder, read_info(str(folder))
    for count, strategy in strategies.items():
        for name, settings in CACHES.items():
            np.save(out / f"{name}-{count}.npy", first_images(records, out / "run", strategy, settings))


def test_two_devices_get_the_examples_of_one_whatever_the_cache(records, tmp_path):
    script = "import sys; from pathlib import Path; from tests.training.test_run_input import save_images; "
    command = [sys.executable, "-c", script + "save_images(*map(Path, sys.argv[1:]))", records[0], tmp_path]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = first_images(records, tmp_path / "run", tf.distribute.get_strategy(), STREAMED)
    assert len(expected) == 7 * 4
    for name in CACHES:
        for count in (1, 2):
            np.testing.assert_array_equal(np.load(tmp_path / f"{name}-{count}.npy"), expected, str((name, count)))


def test_other_machines_decode_for_training_alone_and_what_is_not_promised_is_said_once(records, tmp_path, monkeypatch):
    epochs = []

    def decoded_here(files, batch_size, seed, config, decode_fn, start_epoch=0):
        epochs.append(start_epoch)
        serialized = tf.data.TFRecordDataset([file.path for file in files]).enumerate().repeat()
        return serialized.map(decode_fn).batch(batch_size, drop_remainder=True)

    monkeypatch.setattr(run_input, "service_batches", decoded_here)
    monkeypatch.setattr(run_input, "train_batches", None)
    config = with_input(data_service="host:1")
    with pytest.raises(KeyboardInterrupt):
        start(records[0], tmp_path / "run", config, records[1], progress=interrupt_at(1))
    state, told = start(records[0], tmp_path / "run", config, records[1])
    assert epochs == [0, 1]
    assert sum(NOT_PROMISED in line for line in told) == 1
    assert any(line.split() == ["cache", "none:", "other", "machines", "decode"] for line in told)
    assert [row["epoch"] for row in state.history] == [1, 2]
    with opened(records, tmp_path / "run", config) as data:
        (one, two) = data.validation_batches().as_numpy_iterator()
    images, weights = (np.concatenate([one[name], two[name]]) for name in ("image", "weight"))
    assert keys_of(images[weights == 1]) == VALIDATION
