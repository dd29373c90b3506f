"""Laws of a run on damaged records: it stops and keeps nothing, or goes on without exactly those."""

import contextlib
import dataclasses
import re
import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest

from records.checked import CheckedShards
from records.info import RecordsInfo
from tests.training.events import step_losses
from tests.training.keyed_records import (
    CONFIG,
    FOREGROUND,
    IN_FILE,
    IN_MEMORY,
    STREAMED,
    TRAINING,
    epoch_keys,
    keys_of,
    opened,
    with_input,
    write_records,
)
from tests.training.runs import interrupt_at, start
from training.run_folder import RunFolder
from training.run_input import RunInput


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


@pytest.mark.slow
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
    yield lambda done, words="": None


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
        yield lambda done, words="": None
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
