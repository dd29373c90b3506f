"""Laws of weighted mixing: which classes examples hold, what they weigh, how often each is drawn."""

import dataclasses
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.codec import encode_png
from records.config import InputConfig
from records.mixing import balanced_weights, draw_copies, example_weights, foreground_weights, read_presence

CLASSES = ["background", "wall", "roof"]
HELD = {  # by split: the classes that each record of each shard holds
    "train": [[[0], [0, 1], [1, 2]], [[0], [0, 2]]],
    "val": [[[1], [0]]],
}


def of_classes(held, num_classes=3) -> np.ndarray:
    return np.array([[number in classes for number in range(num_classes)] for classes in held])


def write_offsets(folder, info, held, **replaced) -> None:
    """Writes the table, its rows out of order: nothing promises one."""
    rows = [
        {
            "key": f"{shard.name}/{position}",
            "split": split,
            "shard": shard.name,
            "position": position,
            "classes": classes,
        }
        for split in held
        for shard, records in zip(info.shards(split), held[split], strict=True)
        for position, classes in enumerate(records)
    ]
    schema = [("key", pa.string()), ("split", pa.string()), ("shard", pa.string()), ("position", pa.int64())]
    table = pa.Table.from_pylist(rows[::-1], pa.schema([*schema, ("classes", pa.list_(pa.uint8()))]))
    for name, values in replaced.items():
        table = table.set_column(table.column_names.index(name), name, values(table[name]))
    pq.write_table(table, folder / "offsets.parquet", row_group_size=2)


@pytest.fixture
def held_records(tmp_path, make_record, write_records):
    """(folder, info) of records whose masks are `HELD`, with offsets.parquet."""

    def record(key, classes):
        mask = np.resize(np.array(classes, np.uint8), (6, 10))
        return make_record(key, mask=encode_png(mask))

    shards = {
        split: [
            [record(f"{split}-{i}-{k}", held) for k, held in enumerate(records)] for i, records in enumerate(shards)
        ]
        for split, shards in HELD.items()
    }
    info = write_records(tmp_path / "records", shards, classes=CLASSES)
    write_offsets(tmp_path / "records", info, HELD)
    return tmp_path / "records", info


def test_presence_comes_in_the_order_of_the_files(held_records):
    folder, info = held_records
    first, second, third = info.shard_files(str(folder), ["train", "val"])
    for files in ([first, second, third], [third, first], [second]):
        names = [file.shard for file in files]
        held = [HELD[shard.split][shard.index] for shard in names]
        found = read_presence(str(folder), info, files)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, of_classes([classes for records in held for classes in records]))


def test_presence_leaves_out_lost_records(held_records):
    folder, info = held_records
    first, second = info.shard_files(str(folder), ["train"])
    first = dataclasses.replace(first, length=1, lost=(0, 2), path="elsewhere")
    second = dataclasses.replace(second, length=1, lost=(0,))
    np.testing.assert_array_equal(read_presence(str(folder), info, [first, second]), of_classes([[0, 1], [0, 2]]))


def test_records_without_the_column_say_what_needs_it_and_what_to_do(held_records):
    folder, info = held_records
    path = folder / "offsets.parquet"
    advice = "input.foreground_share and --input.class_balance need.*preprocess anew with --overwrite"
    pq.write_table(pq.read_table(path).drop_columns("classes"), path)
    with pytest.raises(ValueError, match=advice):
        example_weights(str(folder), info, info.shard_files(str(folder), ["train"]), InputConfig(class_balance=0.5))
    path.unlink()
    with pytest.raises(ValueError, match=advice):
        read_presence(str(folder), info, info.shard_files(str(folder), ["train"]))


def test_a_damaged_table_or_one_of_other_records_is_an_error(held_records):
    folder, info = held_records
    path, files = folder / "offsets.parquet", info.shard_files(str(folder), ["train"])

    def expect(message):
        with pytest.raises(ValueError, match=rf"offsets.parquet: {message}.*--overwrite"):
            example_weights(str(folder), info, files, InputConfig(class_balance=0.5))

    data = path.read_bytes()
    path.write_bytes(data[:-20])
    expect("cannot be read")
    pq.write_table(pq.read_table(path.parent / _kept(path, data)).slice(0, 5), path)
    expect("expected 5 records in 2 shards, found 3")
    write_offsets(
        folder, info, HELD, position=lambda column: pa.chunked_array([[row + 2 for row in column.to_pylist()]])
    )
    expect("expected the records and classes of info.json")
    write_offsets(folder, info, HELD | {"train": [[[0], [0, 3], [1]], [[0], [0, 2]]]})
    expect("expected the records and classes of info.json")
    write_offsets(folder, info, HELD | {"train": [[[0], [0, 1], [1]], [[0], [0, 2]]]})
    expect(r"expected \[4, 2, 2\] examples of each class, as info.json counts them, found \[4, 2, 1\]")


def _kept(path, data) -> str:
    (path.parent / "kept.parquet").write_bytes(data)
    return "kept.parquet"


def test_without_either_option_there_are_no_weights_and_no_table_is_read(tmp_path, small_records):
    folder, info, _ = small_records
    assert example_weights(str(folder), info, info.shard_files(str(folder), ["train"]), InputConfig()) is None


def test_foreground_is_any_scored_class(held_records):
    folder, info = held_records
    files = info.shard_files(str(folder), ["train"])
    weights = example_weights(str(folder), info, files, InputConfig(foreground_share=0.9))
    np.testing.assert_allclose(weights, [0.05, 0.3, 0.3, 0.05, 0.3])  # of five, three hold wall or roof


def test_class_balance_weighs_by_the_rarest_class_and_nothing_is_a_class(held_records):
    folder, info = held_records
    files = info.shard_files(str(folder), ["train", "val"])
    # Of seven, three hold nothing, three hold wall and two hold roof; the background does not count.
    weights = example_weights(str(folder), info, files, InputConfig(class_balance=1))
    np.testing.assert_allclose(weights, [7 / 3, 7 / 3, 7 / 2, 7 / 3, 7 / 2, 7 / 3, 7 / 3])
    roots = example_weights(str(folder), info, files, InputConfig(class_balance=0.5))
    np.testing.assert_allclose(roots, np.sqrt(weights))


def test_lost_records_weigh_nothing_and_count_nowhere(held_records):
    folder, info = held_records
    first, second = info.shard_files(str(folder), ["train"])
    files = [dataclasses.replace(first, length=2, lost=(0,)), second]
    weights = example_weights(str(folder), info, files, InputConfig(class_balance=1))
    np.testing.assert_allclose(weights, [2, 2, 4, 2])


def test_a_kind_that_is_wanted_but_not_there_is_named():
    for present, kind in ((np.ones(4, bool), "without"), (np.zeros(4, bool), "with")):
        with pytest.raises(ValueError, match=rf"foreground_share: expected training examples {kind} foreground"):
            foreground_weights(present, 0.5)
    np.testing.assert_array_equal(foreground_weights(np.ones(4, bool), 1.0), [0.25] * 4)
    np.testing.assert_array_equal(foreground_weights(np.array([True, False]), 1.0), [1, 0])


def copies_of(weights, seed=0, epoch=0) -> np.ndarray:
    return draw_copies(np.asarray(weights, float), seed, epoch).numpy()


def exact_bounds(weights) -> tuple[list[int], list[int]]:
    """Returns the expectations rounded (down, up), in exact arithmetic."""
    total = sum(map(Fraction, weights))
    expected = [len(weights) * Fraction(weight) / total for weight in weights]
    return [value // 1 for value in expected], [-(-value // 1) for value in expected]


some_weights = st.lists(
    st.one_of(st.just(0.0), st.sampled_from([1.0, 0.1, 3.0]), st.floats(1e-12, 1e12)), min_size=1, max_size=30
).filter(any)


@settings(max_examples=60, deadline=None)
@given(weights=some_weights, seed=st.integers(0, 2**40), epoch=st.integers(0, 2**40))
def test_copies_sum_to_the_number_of_examples_and_each_is_its_expectation_rounded(weights, seed, epoch):
    copies = copies_of(weights, seed, epoch)
    low, high = exact_bounds(weights)
    assert copies.dtype == np.int64
    assert copies.sum() == len(weights)
    assert (low <= copies).all()
    assert (copies <= high).all()


def test_copies_are_right_on_average():
    weights = np.array([0, 1, 1, 1, 2.5, 2.5, 7, 0.01, 0.01, 20])
    expected = 10 * weights / weights.sum()
    epochs = tf.data.Dataset.range(3000).map(lambda epoch: draw_copies(weights, 5, epoch))
    mean = np.mean(list(epochs.as_numpy_iterator()), axis=0)
    np.testing.assert_allclose(mean, expected, atol=0.05)  # four standard errors are 0.037 at most
    assert mean[0] == 0


def test_chance_within_a_group_favours_no_pair():
    # Three of six have one more; systematic sampling in a fixed order would draw few of the 20 triples.
    weights = np.array([1.0] * 6 + [3.0] * 6)  # expectations 0.5 and 1.5
    epochs = tf.data.Dataset.range(2000).map(lambda epoch: draw_copies(weights, 1, epoch)[:6])
    triples, counts = np.unique(list(epochs.as_numpy_iterator()), axis=0, return_counts=True)
    assert len(triples) == 20
    assert counts.min() > 60  # 100 each, standard deviation 10


@settings(max_examples=30, deadline=None)
@given(
    present=st.lists(st.booleans(), min_size=2, max_size=200).filter(lambda held: any(held) and not all(held)),
    share=st.floats(0, 1),
    epoch=st.integers(0, 100),
)
def test_the_share_of_foreground_in_an_epoch_is_the_stated_one_to_an_example(present, share, epoch):
    has_foreground = np.array(present)
    copies = copies_of(foreground_weights(has_foreground, share), epoch=epoch)
    assert abs(copies[has_foreground].sum() - share * len(present)) < 1 + 1e-9


@settings(max_examples=20, deadline=None)
@given(held=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50), epoch=st.integers(0, 100))
def test_balance_0_gives_each_example_once(held, epoch):
    np.testing.assert_array_equal(copies_of(balanced_weights(np.array(held), 0), epoch=epoch), np.ones(len(held)))


def test_balance_1_shows_disjoint_classes_equally_often():
    presence = np.repeat(np.eye(3, 2, dtype=bool), [600, 30, 270], axis=0)  # the third kind holds nothing
    copies = copies_of(balanced_weights(presence, 1))
    np.testing.assert_array_equal(np.add.reduceat(copies, [0, 600, 630]), [300, 300, 300])


def test_seed_and_epoch_decide_and_nothing_else():
    weights = np.random.default_rng(0).choice([1.0, 2.0, 5.0], 200)
    drawn = []
    for global_seed in (1, 2):
        tf.random.set_seed(global_seed)
        tf.random.normal([3])
        drawn.append(copies_of(weights, 7, 3))
    np.testing.assert_array_equal(*drawn)
    for other in (copies_of(weights, 7, 4), copies_of(weights, 8, 3), copies_of(weights, 3, 7)):
        assert (other != drawn[0]).any()


def test_a_draw_is_the_same_eagerly_in_a_graph_and_in_a_dataset():
    weights = np.random.default_rng(0).choice([0.0, 1.0, 2.0, 5.0], 200)
    graph = tf.function(lambda epoch: draw_copies(weights, 7, epoch))
    dataset = tf.data.Dataset.range(3).flat_map(
        lambda epoch: tf.data.Dataset.from_tensors(draw_copies(weights, 7, epoch))
    )
    for epoch, in_dataset in enumerate(dataset.as_numpy_iterator()):
        eager = copies_of(weights, 7, epoch)
        np.testing.assert_array_equal(in_dataset, eager)
        np.testing.assert_array_equal(graph(tf.constant(epoch, tf.int64)), eager)


def test_one_draw_is_pinned():
    # Another order than that of runs made before would resume them wrongly: change it only with a reason.
    assert copies_of([1, 1, 1, 1, 4, 4, 4, 0, 10], 3, 2).tolist() == [0, 0, 1, 1, 1, 1, 2, 0, 3]


def test_ten_million_examples_get_exactly_as_many_copies():
    weights = np.random.default_rng(0).choice([0.1, 1 / 3, 1.7, 12345.6], 10_000_000, p=[0.2, 0.3, 0.4999, 0.0001])
    copies = copies_of(weights)
    assert copies.sum() == 10_000_000
    for weight in np.unique(weights):
        mine = weights == weight
        expected = 10_000_000 * weight / weights.sum()
        assert copies[mine].min() == np.floor(expected)
        assert copies[mine].max() == np.ceil(expected)
        assert abs(copies[mine].sum() - expected * mine.sum()) < 1.01
