"""Laws of a run's input: however it is read, a run is the same; damage, weights and waiting are dealt with and told."""

import contextlib
import dataclasses
import itertools
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from imaging.codec import encode_png
from model.config import AugmentConfig, ModelConfig
from records.cache import choose_cache
from records.checked import CheckedShards
from records.config import InputConfig
from records.info import RecordsInfo, read_info
from records.schema import Record, decode_pixels, encode
from records.service import NOT_PROMISED
from records.shards import FRAME_BYTES
from tests.conftest import silent_progress
from tests.records.conftest import made_record, write_made_records
from tests.training.events import step_losses
from tests.training.test_loop import interrupt_at, refuse, start, without_timings
from training import run_input
from training.config import MAY_CHANGE, TrainConfig
from training.devices import choose_strategy
from training.run_folder import RunFolder
from training.run_input import RunInput, distribute, open_input

KEYS = {"train": [["a0", "a1", "a2", "a3", "a4"], ["b0", "b1", "b2", "b3"], ["c0", "c1", "c2"]]}
KEYS["val"] = [["d0", "d1", "d2"], ["e0", "e1"]]
TRAINING, VALIDATION = (sorted(key for shard in KEYS[split] for key in shard) for split in KEYS)
FOREGROUND = {"a1", "b0", "c2", "d0", "e0"}
# Dropout is on, so that a resume has something to get wrong.
CONFIG = TrainConfig(
    epochs=2,
    global_batch_size=4,
    checkpoint_minutes=0,
    model=ModelConfig(depth=1, filters=2, dropout=0.2),
    augment=AugmentConfig.none(),
    input=InputConfig(cache_mib=0),
)
STREAMED, IN_MEMORY, IN_FILE = {"cache_mib": 0}, {}, {"cache_mib": 0, "cache_file_mib": 9}


def with_input(config: TrainConfig = CONFIG, **settings) -> TrainConfig:
    return dataclasses.replace(config, input=InputConfig(**settings))


def a_record(key: str, seed: str = "") -> Record:
    """Returns a record whose pixels depend on key and seed, and its length on neither."""
    mask = np.resize(np.array([0, 1] if key in FOREGROUND else [0], np.uint8), (6, 10))
    image = made_record(key + seed, "raw").image
    return made_record(key, "raw", image=image, mask=encode_png(mask), instances=None, objects=None)


def write_records(folder: Path, seed: str = "", drop: tuple[str, ...] = ()) -> RecordsInfo:
    """Writes records of KEYS, with offsets.parquet but for the columns to be dropped."""
    records = {split: [[a_record(key, seed) for key in shard] for shard in KEYS[split]] for split in KEYS}
    info = write_made_records(folder, records)
    rows = []
    for split in KEYS:
        for shard, held in zip(info.shards(split), records[split], strict=True):
            offset = 0
            for position, record in enumerate(held):
                classes = [0, 1] if record.source_id in FOREGROUND else [0]
                rows.append((record.source_id, split, shard.name, position, offset, classes))
                offset += len(encode(record)) + FRAME_BYTES
    table = pd.DataFrame(rows, columns=["key", "split", "shard", "position", "offset", "classes"])
    table.drop(columns=list(drop)).to_parquet(folder / "offsets.parquet", index=False)
    return info


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> tuple[Path, RecordsInfo]:
    """(folder, info) of sound records; read only."""
    folder = tmp_path_factory.mktemp("sound") / "records"
    return folder, write_records(folder)


@pytest.fixture
def own(tmp_path) -> tuple[Path, RecordsInfo]:
    """(folder, info) of records to be damaged."""
    return tmp_path / "records", write_records(tmp_path / "records")


@pytest.fixture(scope="module")
def finished(records, tmp_path_factory):
    """(run, state, told) of an uninterrupted run of CONFIG; read only."""
    run = RunFolder(tmp_path_factory.mktemp("finished") / "run")
    return run, *start(records[0], run.path, CONFIG, records[1])


def opened(records: tuple[Path, RecordsInfo], run: Path, config: TrainConfig = CONFIG, told: list | None = None):
    folder, info = records
    tell = [].append if told is None else told.append
    return open_input(str(folder), info, RunFolder(run), config, silent_progress, tell)


def keys_of(images: np.ndarray) -> list[str]:
    keys = {decode_pixels(a_record(key), "uint8").tobytes(): key for key in TRAINING + VALIDATION}
    return [keys[image.tobytes()] for image in images]


def epoch_keys(data: RunInput, epoch: int) -> list[str]:
    batches = data.training_batches(epoch, 0).take(data.steps)
    return keys_of(np.concatenate([batch["image"] for batch in batches.as_numpy_iterator()]))


def assert_same_run(run: RunFolder, state, finished) -> None:
    expected_run, expected, _ = finished
    losses, expected_losses = step_losses(run.tensorboard), step_losses(expected_run.tensorboard)
    assert losses.keys() == expected_losses.keys() == set(range(6))
    # Without op determinism threads may add in another order.
    np.testing.assert_allclose([losses[n] for n in range(6)], [expected_losses[n] for n in range(6)], rtol=1e-5)
    for row, wanted in zip(without_timings(state.history), without_timings(expected.history), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-5)


# --- however records are read


@pytest.mark.parametrize(("settings", "where"), [(IN_MEMORY, "memory"), (IN_FILE, "file")])
def test_a_run_with_a_cache_equals_one_without(records, finished, tmp_path, settings, where):
    state, told = start(records[0], tmp_path / "run", with_input(**settings), records[1])
    assert finished[2][0].split()[:2] == ["cache", "none:"]
    assert told[0].split()[:2] == ["cache", f"{where}:"]
    assert_same_run(RunFolder(tmp_path / "run"), state, finished)
    assert not (tmp_path / "run" / "cache").exists()


@pytest.mark.parametrize(
    ("begun", "gone_on"),
    [
        (IN_FILE, {**IN_MEMORY, "threads": 1, "autotune_mib": 1}),
        (IN_MEMORY, {**STREAMED, "prefetch": 0, "skip_damaged": True}),
        ({**STREAMED, "threads": 2}, {**IN_FILE, "prefetch": 5}),
    ],
)
def test_a_run_that_goes_on_reading_in_another_way_equals_an_uninterrupted_one(
    records, finished, tmp_path, begun, gone_on
):
    folder, info = records
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        start(folder, run.path, with_input(**begun), info, progress=interrupt_at(1))
    assert run.cache.exists() == (begun == IN_FILE)
    state, told = start(folder, run.path, with_input(**gone_on), info)
    assert told[0].startswith("going on from epoch 2, step 1 (")
    assert_same_run(run, state, finished)
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
def test_settings_that_change_the_examples_are_refused_by_name_and_others_taken(records, finished, name):
    folder, info = records
    run, _, _ = finished
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
    records, finished, tmp_path, weighting
):
    config = with_input(**IN_MEMORY, **weighting)
    state, _ = start(records[0], tmp_path / "run", config, records[1])
    assert np.isfinite(state.history[1]["loss"])
    assert step_losses(tmp_path / "run" / "tensorboard") != step_losses(finished[0].tensorboard)
    info = write_records(tmp_path / "records", drop=("classes",))
    refuse("expected the column 'classes', which --input", tmp_path / "records", tmp_path / "other", config, info)
    assert not (tmp_path / "other").exists()


# --- damage


def shard_file(records: tuple[Path, RecordsInfo], split: str, index: int = 0) -> Path:
    return Path(records[1].shard_files(str(records[0]), [split])[index].path)


def record_start(records: tuple[Path, RecordsInfo], key: str) -> int:
    """Returns where in its shard a record's own bytes begin."""
    table = pd.read_parquet(records[0] / "offsets.parquet").set_index("key")
    return int(table.loc[key, "offset"]) + 12


def flip_b1(records) -> Path:
    path, place = shard_file(records, "train", 1), record_start(records, "b1") + 60
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    return path


def cut_d1(records) -> Path:
    path = shard_file(records, "val")
    path.write_bytes(path.read_bytes()[: record_start(records, "d1") + 9])
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "checked.json"}


@pytest.mark.parametrize("settings", [STREAMED, IN_MEMORY])
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (flip_b1, r"1 of 4 records damaged: record 1 \(key 'b1'\): its \d+ bytes fail their checksum"),
        (cut_d1, r"2 of 3 records damaged: record 1 \(key 'd1'\): truncated, .*; record 2 \(key 'd2'\): truncated"),
    ],
    ids=["flipped bit", "cut shard"],
)
def test_damage_stops_a_run_with_nothing_kept_and_skipping_it_goes_on_in_the_same_folder(
    own, tmp_path, settings, damage, named
):
    path, run = damage(own), RunFolder(tmp_path / "run")
    damaged = content(own[0])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {named}.*--overwrite.*--input.skip_damaged"):
        start(own[0], run.path, with_input(**settings), own[1])
    assert not run.model.exists()
    assert not run.history.exists()
    state, told = start(own[0], run.path, with_input(**settings, skip_damaged=True), own[1])
    assert [row["epoch"] for row in state.history] == [1, 2]
    lost = 1 if damage is flip_b1 else 2
    assert told.count(f"damaged records left out of training and validation: {lost}") == 2
    assert any(re.search(f"{re.escape(str(path))}: .*{named.partition('damaged: ')[2]}", line) for line in told)
    assert content(own[0]) == damaged
    assert [mended.name for mended in run.mended.iterdir()] == [path.name]


@pytest.mark.parametrize("settings", [STREAMED, IN_MEMORY, IN_FILE, {"foreground_share": 0.5}])
def test_without_damaged_records_an_epoch_holds_exactly_the_others(own, tmp_path, settings):
    paths, told = [flip_b1(own), cut_d1(own)], []
    config = dataclasses.replace(with_input(**settings, skip_damaged=True), global_batch_size=11)
    with opened(own, tmp_path / "run", config, told) as data:
        assert (data.steps, data.num_lost) == (1, 3)
        for epoch in range(3):
            keys = epoch_keys(data, epoch)
            if "foreground_share" in settings:
                assert "b1" not in keys
                assert sum(key in FOREGROUND for key in keys) in {5, 6}
            else:
                assert sorted(keys) == sorted(set(TRAINING) - {"b1"})
        (batch,) = data.validation_batches().as_numpy_iterator()
        assert keys_of(batch["image"][batch["weight"] == 1]) == ["d0", "e0", "e1"]
    assert told[0] == "3 damaged records are skipped (of 2 shards):"
    assert {path.name for path in (tmp_path / "run" / "mended").iterdir()} == {path.name for path in paths}


def test_an_epoch_that_loses_records_amid_its_steps_keeps_its_mean_and_the_next_is_whole(own, tmp_path, monkeypatch):
    config, run = dataclasses.replace(CONFIG, epochs=3), RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        start(own[0], run.path, config, own[1], progress=interrupt_at(2))
    path = shard_file(own, "train")
    path.write_bytes(path.read_bytes()[:100])  # 7 of 12 examples are left: one step, where two are done
    seen = []
    spied = RunInput.training_batches

    def training_batches(data, epoch, step):
        seen.append((epoch, step))
        return spied(data, epoch, step)

    monkeypatch.setattr(RunInput, "training_batches", training_batches)
    state, _ = start(own[0], run.path, with_input(config, **STREAMED, skip_damaged=True), own[1])
    assert seen == [(1, 1)]  # behind the only step of the second epoch, so before the third
    losses = step_losses(run.tensorboard)
    assert state.history[1]["loss"] == pytest.approx((losses[3] + losses[4]) / 2, rel=1e-5)


@contextlib.contextmanager
def stop_before_the_first_epoch(label, total):
    if label.startswith("epoch"):
        raise KeyboardInterrupt
    yield lambda done: None


@pytest.mark.parametrize("settings", [STREAMED, IN_MEMORY, IN_FILE])
@pytest.mark.parametrize("split", ["train", "val"])
def test_another_datasets_shard_that_reads_well_stops_the_run_before_an_epoch_is_kept(
    own, tmp_path, monkeypatch, settings, split
):
    run, config = RunFolder(tmp_path / "run"), with_input(**settings)
    with pytest.raises(KeyboardInterrupt):
        start(own[0], run.path, config, own[1], progress=stop_before_the_first_epoch)
    assert run.cache.exists() == (settings == IN_FILE)  # then no training shard is read again but to be checked
    other = tmp_path / "other"
    write_records(other, seed="other")
    path = shard_file(own, split)
    size = path.stat().st_size
    shutil.copy(other / path.name, path)
    assert path.stat().st_size == size
    trained, is_whole = threading.Event(), CheckedShards.is_whole

    def is_whole_in_the_end(*args):
        assert trained.wait(timeout=60)
        return is_whole(*args)

    @contextlib.contextmanager
    def progress(label, total):
        yield lambda done: None
        if label.startswith("epoch"):
            trained.set()

    monkeypatch.setattr(CheckedShards, "is_whole", is_whole_in_the_end)
    message = f"{re.escape(str(path))}: expected the shard that info.json"
    with pytest.raises(ValueError, match=message):
        start(own[0], run.path, config, own[1], progress=progress)
    assert trained.is_set()
    assert not run.model.exists()
    assert not run.history.exists()
    with pytest.raises(ValueError, match=message):
        start(own[0], run.path, with_input(**settings, skip_damaged=True), own[1])


# --- waiting


def test_waiting_for_input_is_in_the_history_in_tensorboard_and_in_the_epochs_line(finished):
    run, state, told = finished
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
            with tf.control_dependencies([tf.py_function(lambda: time.sleep(0.2), [], [])]):
                return {name: tf.identity(value) for name, value in batch.items()}

        return fast(*args, **how).map(late)

    monkeypatch.setattr(run_input, "train_batches", slow)
    state, told = start(records[0], tmp_path / "run", CONFIG, records[1])
    # The first epoch's time is that of compiling.
    wait = state.history[1]["input_wait"]
    assert 0.5 < wait < 1
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
    data = RunInput(info, config, files, [], weights, cache, None, 0)
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


# --- devices and other machines


CACHES = {"none": STREAMED, "memory": IN_MEMORY, "file": IN_FILE}


def first_images(records, run: Path, strategy: tf.distribute.Strategy, settings: dict) -> np.ndarray:
    """Returns the images of the batches that all devices together get, from the middle of an epoch on."""
    with opened(records, run, with_input(**settings)) as data:
        batches = itertools.islice(distribute(strategy, data.training_batches(1, 1)), 7)
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
