"""Laws of damage met by training: named by the check in the background, or by the batch that meets it."""

import threading
from pathlib import Path

import pytest
import tensorflow as tf

import records.shards
from records.damage import ShardCheck, explain_damage
from records.mend import mend
from records.schema import parse
from tests.records.rotting import check, key_of, rot

# --- in the background


def test_a_damaged_shard_stops_the_run_with_file_record_key_and_remedy(own):
    folder, info, files = own
    key = key_of(folder, files[0])
    rot(files[0])
    with ShardCheck(str(folder), info, files) as shard_check:
        with pytest.raises(ValueError) as caught:
            shard_check.finish()
        with pytest.raises(ValueError, match="records damaged"):
            shard_check.raise_if_damaged()
        assert not shard_check.is_whole
    message = str(caught.value)
    assert message.startswith(f"{files[0].path}: 1 of {files[0].length} records damaged: record 3 (key {key!r}): its ")
    assert "`python -m preprocess` with --overwrite makes the records anew" in message
    assert "--input.skip_damaged" in message


def test_a_missing_shard_and_a_table_without_offsets_stop_the_run(own):
    folder, info, files = own
    rot(files[0])
    (folder / "offsets.parquet").unlink()
    with pytest.raises(ValueError, match=r"offsets\.parquet: cannot be read"):
        check(folder, info, files)
    Path(files[0].path).unlink()
    with pytest.raises(ValueError, match=f"{files[0].path}: expected a shard, found no such file"):
        check(folder, info, files)


def test_nothing_is_raised_while_nothing_is_found_and_leaving_ends_the_reading(own, monkeypatch):
    folder, info, files = own
    reading, go_on = threading.Event(), threading.Event()

    class Slow:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, size):
            reading.set()
            go_on.wait(5)
            return b"endless"

    monkeypatch.setattr(records.shards, "open_file", lambda path: Slow())
    with ShardCheck(str(folder), info, files) as shard_check:
        assert reading.wait(5)
        shard_check.raise_if_damaged()
        assert not shard_check.is_whole
        shard_check.finish(given_up=lambda: True)
        assert not shard_check.is_whole
        go_on.set()
    assert not shard_check._thread.is_alive()
    shard_check.raise_if_damaged()
    assert not (folder / "checked.json").exists()


def test_storage_that_fails_is_told_by_the_thread_that_trains(own, monkeypatch):
    folder, info, files = own

    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(records.shards, "open_file", fail)
    with pytest.raises(ValueError, match=f"{files[0].path}: cannot be read .*Input/output error"):
        check(folder, info, files)


# --- met in a batch


def batches(files):
    paths = [file.path for file in files]
    examples = tf.data.TFRecordDataset(paths).map(
        lambda record: parse(record, channels=3, dtype="uint8", labeled=True)["image"], tf.data.AUTOTUNE
    )
    return examples.batch(2).prefetch(2)


def explained(folder, info, files, dataset) -> str:
    with pytest.raises(ValueError) as caught, explain_damage(str(folder), info, files):
        for _ in dataset:
            pass
    return str(caught.value)


def test_rot_met_in_a_batch_names_the_record_whatever_was_remembered(own):
    folder, info, files = own
    check(folder, info, files)
    key = key_of(folder, files[0])
    rot(files[0])
    message = explained(folder, info, files, batches(files))
    assert message.startswith(f"{files[0].path}: 1 of {files[0].length} records damaged: record 3 (key {key!r}): its ")
    with pytest.raises(ValueError, match="records damaged"):
        check(folder, info, files)


def test_rot_met_by_several_replicas_names_the_record(own):
    folder, info, files = own
    rot(files[0])
    dataset = tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(batches(files))
    assert explained(folder, info, files, dataset).startswith(f"{files[0].path}: 1 of ")


def test_a_shard_gone_or_cut_amid_the_epochs_is_named(own):
    folder, info, files = own
    path = Path(files[0].path)
    path.write_bytes(path.read_bytes()[:-2000])
    message = explained(folder, info, files, batches(files))
    assert message.startswith(f"{path}: ")
    assert f"record {files[0].length - 1} (key " in message
    path.unlink()
    message = explained(folder, info, files, batches(files))
    assert message.startswith(f"{path}: expected a shard, found no such file")


def test_a_mended_shard_that_rots_is_named_and_mended_by_the_next_start(own, tmp_path):
    folder, info, files = own
    rot(files[0])
    mended, _ = mend(str(folder), info, files, tmp_path / "run", lambda num_bytes: None)
    rot(mended[0], record=5)
    message = explained(folder, info, mended, batches(mended))
    assert message.startswith(f"{mended[0].path}: record 5: its ")
    assert message.endswith("the same command mends the shard anew")
    mended, _ = mend(str(folder), info, files, tmp_path / "run", lambda num_bytes: None)
    with explain_damage(str(folder), info, mended):
        assert (
            sum(len(batch) for batch in batches(mended))
            == info.splits["train"].num_examples - 1 + info.splits["val"].num_examples
        )


def test_a_record_that_does_not_decode_is_told_apart_from_damage(tmp_path, make_record, write_records):
    folder = tmp_path / "records"
    junk = make_record("a1", image=b"no image at all", instances=None)
    info = write_records(folder, {"train": [[make_record("a0"), junk]]}, instances=False)
    files = info.shard_files(str(folder), ["train"])
    message = explained(folder, info, files, batches(files))
    assert message.startswith(f"{folder}: no batch (Unknown image file format.")
    assert f"a record does not decode, and `python -m records verify {folder}` names it" in message
    assert "node" not in message


def test_damage_that_is_not_in_the_shards_is_told_so(own, tmp_path):
    folder, info, files = own
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(Path(files[0].path).read_bytes()[:-9])
    message = explained(folder, info, files, tf.data.TFRecordDataset(str(elsewhere)))
    assert "truncated record" in message
    assert "though every shard is whole: a cache, the memory or the storage failed" in message


def test_errors_that_do_not_come_out_of_the_input_pass(own):
    folder, info, files = own

    @tf.function(input_signature=[tf.TensorSpec(None)])
    def model(batch):
        return tf.linalg.matmul(batch, tf.zeros((7, 2)))

    with pytest.raises(tf.errors.InvalidArgumentError), explain_damage(str(folder), info, files):
        for _ in batches(files):
            model(tf.zeros((2, 3)))
    with pytest.raises(tf.errors.NotFoundError), explain_damage(str(folder), info, files):
        tf.io.read_file(str(folder / "nowhere"))
    with pytest.raises(KeyError), explain_damage(str(folder), info, files):
        raise KeyError("another")
    with explain_damage(str(folder), info, files):
        assert sum(len(batch) for batch in batches(files)) == sum(file.length for file in files)
