"""Laws of the order of training examples, and of its division between workers."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from records.config import InputConfig
from records.input_pipeline import decoded_examples, eval_batches, steps_per_epoch, train_batches
from records.order import (
    Share,
    buffer_sizes,
    divide,
    epoch_order,
    example_counts,
    record_indices,
    serialized_records,
)
from records.shards import Shard, ShardFile, frame


def made_files(lengths) -> list[ShardFile]:
    """Files that are not there; record k of all is k bytes long, as far as anyone is told."""
    return [
        ShardFile(Shard("made", "train", number, len(lengths)), f"made-{number}", length, 100 * length + 1)
        for number, length in enumerate(lengths)
    ]


def written_files(folder, lengths) -> list[ShardFile]:
    """Shards of records that say their index over all."""
    files, first = [], 0
    for number, length in enumerate(lengths):
        data = b"".join(frame(str(index).encode()) for index in range(first, first + length))
        path = folder / f"shard-{number}"
        path.write_bytes(data)
        files.append(ShardFile(Shard("made", "train", number, len(lengths)), str(path), length, len(data)))
        first += length
    return files


def drawn(order, epoch: int) -> list[int]:
    return [int(value) for _, value in order(tf.constant(epoch, tf.int64)).as_numpy_iterator()]


lengths_of_shards = st.lists(st.integers(1, 9), min_size=1, max_size=20)


@settings(max_examples=15, deadline=None)
@given(lengths=lengths_of_shards, seed=st.integers(0, 2**31), buffer=st.integers(1, 50), epoch=st.integers(0, 1000))
def test_every_epoch_is_a_permutation_whatever_the_shards_seed_and_buffer(lengths, seed, buffer, epoch):
    files = made_files(lengths)
    order = epoch_order(files, record_indices(files), seed, buffer)
    assert sorted(drawn(order, epoch)) == list(range(sum(lengths)))
    assert drawn(order, epoch) == drawn(order, epoch)


@pytest.mark.parametrize("lengths", [[5], [1, 2, 3], [4, 1, 7, 2], list(range(1, 24))])
@pytest.mark.parametrize("buffer", [1, 3, 1000])
def test_indices_come_in_the_order_of_the_records_themselves(tmp_path, lengths, buffer):
    files = written_files(tmp_path, lengths)
    of_records = epoch_order(files, serialized_records(files), 3, buffer)
    of_indices = epoch_order(files, record_indices(files), 3, buffer)
    for epoch in range(3):
        assert drawn(of_records, epoch) == drawn(of_indices, epoch)


def test_weighted_indices_come_in_the_order_of_the_weighted_records(tmp_path):
    files = written_files(tmp_path, [3, 8, 5])
    weights = np.arange(16.0)
    of_records = epoch_order(files, serialized_records(files), 3, 7, weights)
    of_indices = epoch_order(files, record_indices(files), 3, 7, weights)
    for epoch in range(3):
        order = drawn(of_records, epoch)
        assert order == drawn(of_indices, epoch)
        assert len(order) == 16
        expected = 16 * weights / weights.sum()
        copies = np.bincount(order, minlength=16)
        assert (np.floor(expected) <= copies).all()
        assert (copies <= np.ceil(expected)).all()
    assert drawn(of_records, 0) != drawn(of_records, 1)


def test_draws_are_numbered_without_repetition_over_epochs():
    files = made_files([4, 3])
    order = epoch_order(files, record_indices(files), 0, 3)
    numbers = [int(draw) for epoch in range(5) for draw, _ in order(tf.constant(epoch, tf.int64)).as_numpy_iterator()]
    assert len(set(numbers)) == 35
    assert numbers == sorted(numbers)


def test_the_order_is_the_same_on_a_machine_with_one_thread(tmp_path):
    files = written_files(tmp_path, range(1, 30))
    order = epoch_order(files, serialized_records(files), 5, 40)
    expected = drawn(order, 2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    alone = order(tf.constant(2, tf.int64)).with_options(options)
    assert [int(value) for _, value in alone.as_numpy_iterator()] == expected


# --- budgets


def test_shuffling_and_reading_ahead_together_keep_to_the_budget():
    files = [ShardFile(Shard("made", "train", 0, 1), "made", 10_000, 10_000 * 2**16)]  # 64 KiB each
    shuffled, ahead = buffer_sizes(files, 256)
    assert (shuffled, ahead) == (3072, 1024)
    assert (shuffled + ahead) * 2**16 == 256 * 2**20


def test_small_data_are_shuffled_whole_and_large_records_one_by_one():
    assert buffer_sizes(made_files([5, 6]), 1) == (11, 11)
    large = [ShardFile(Shard("made", "train", 0, 1), "made", 4, 4 * 2**24)]
    assert buffer_sizes(large, 1) == (1, 1)


# --- workers


@settings(max_examples=200, deadline=None)
@given(lengths=lengths_of_shards, workers=st.integers(1, 8))
def test_workers_together_get_every_example_once(lengths, workers):
    files = made_files(lengths)
    seen, counts = [], []
    for index in range(workers):
        own, part = divide(files, Share(index, workers))
        places = [(file.path, position) for file in own for position in range(file.length)]
        seen += places[part.index :: part.count]
        counts.append(len(places[part.index :: part.count]))
    assert sorted(seen) == sorted((file.path, position) for file in files for position in range(file.length))
    assert counts == example_counts(files, workers)
    assert min(counts) >= 0.98 * sum(lengths) / workers or max(counts) - min(counts) <= 1


def test_enough_even_shards_are_divided_whole():
    files = made_files([10] * 8)
    for index in range(4):
        own, part = divide(files, Share(index, 4))
        assert len(own) == 2
        assert part == Share(0, 1)


@pytest.mark.parametrize("lengths", [[30], [10, 10, 10], [100, 5, 5, 5]])
def test_too_few_or_uneven_shards_are_divided_by_examples(lengths):
    files = made_files(lengths)
    own, part = divide(files, Share(1, 4))
    assert own == files
    assert part == Share(1, 4)


@pytest.mark.parametrize("shards", [[["a0", "a1", "a2", "a3", "a4"], ["b0"]], [["a0", "a1", "a2"], ["b0", "b1", "b2"]]])
def test_two_workers_train_on_different_examples_and_evaluate_all(tmp_path, make_record, write_records, shards):
    records = [[make_record(key) for key in shard] for shard in shards]
    info = write_records(
        tmp_path, {"train": records, "val": [[make_record("v0"), make_record("v1"), make_record("v2")]]}
    )
    files, validation = info.shard_files(str(tmp_path), ["train"]), info.shard_files(str(tmp_path), ["val"])
    steps = steps_per_epoch(files, 1, workers=2)
    assert steps == 3
    epochs, evaluated, weights = [], [], []
    for index in range(2):
        share = Share(index, 2)
        batches = train_batches(files, info, 1, 7, InputConfig(), share=share).take(2 * steps)
        keys = [key.decode() for batch in batches for key in batch["source_id"].numpy()]
        epochs.append((keys[:steps], keys[steps:]))
        held_out = list(eval_batches(validation, info, 2, InputConfig(), share=share))
        evaluated.append(len(held_out))
        weights += [
            key.decode()
            for batch in held_out
            for key, weight in zip(batch["source_id"].numpy(), batch["weight"].numpy(), strict=True)
            if weight
        ]
    expected = sorted(key for shard in shards for key in shard)
    for epoch in range(2):
        assert sorted(epochs[0][epoch] + epochs[1][epoch]) == expected
    assert sorted(weights) == ["v0", "v1", "v2"]
    assert len(set(evaluated)) == 1  # none waits for the other


def test_resuming_one_of_two_workers_continues_exactly(tmp_path, make_record, write_records):
    info = write_records(tmp_path, {"train": [[make_record(f"a{number}") for number in range(9)]]})
    files = info.shard_files(str(tmp_path), ["train"])

    def keys(batches, **start):
        dataset = train_batches(files, info, 2, 7, InputConfig(), share=Share(1, 2), **start).take(batches)
        return [batch["source_id"].numpy().tolist() for batch in dataset]

    assert keys(3, start_epoch=1, start_step=1) == keys(6)[3:]


def test_decoded_examples_come_in_the_order_of_the_files(small_records):
    folder, info, by_key = small_records
    files = info.shard_files(str(folder), ["train"])
    keys = [example["source_id"].numpy().decode() for example in decoded_examples(files, info, InputConfig())]
    assert keys == [key for key in by_key if key[0] in "ab"]
