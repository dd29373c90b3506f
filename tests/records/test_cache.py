import contextlib
import dataclasses
import gc
import resource
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imaging.codec import decode_mask, encode_png
from records import cache
from records.cache import ExampleCache, fill_cache
from records.schema import decode_pixels, parse

SHARDS = [["a0", "a1", "a2"], ["b0", "b1"]]
KEYS = [key for shard in SHARDS for key in shard]


def ignore(done):
    pass


def decoded(info, files) -> tf.data.Dataset:
    def decode(serialized):
        example = parse(
            serialized,
            channels=info.channels,
            dtype=info.dtype,
            labeled=info.labeled,
            overlapping=info.overlapping,
            raw=info.coding == "raw",
        )
        example["image"].set_shape([info.height, info.width, info.channels])
        example["mask"].set_shape([info.height, info.width])
        return example

    return tf.data.TFRecordDataset([file.path for file in files]).map(decode, 2, deterministic=True)


def fill(info, files, folder=None, report=ignore) -> ExampleCache:
    return fill_cache(info, files, decoded(info, files), report, folder)


@pytest.fixture
def made(tmp_path, small_records):
    """(info, files, records by key) of five training examples in two shards."""
    folder, info, by_key = small_records
    return info, info.shard_files(str(folder), ["train"]), by_key


@pytest.fixture(params=["memory", "file"])
def folder(request, tmp_path) -> Path | None:
    """Where the cache goes: None for memory."""
    return tmp_path / "run" / "cache" if request.param == "file" else None


def bit_fields(key: str) -> bytes:
    values = np.random.default_rng(list(key.encode())).choice(np.array([0, 1, 3, 2**14, 2**15], np.uint16), (6, 10))
    return encode_png(values)


# --- what a look gives


@pytest.mark.parametrize("image_format", ["png", "raw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("overlapping", [False, True])
def test_a_look_gives_what_decoding_gives(
    tmp_path, make_record, write_records, folder, image_format, dtype, overlapping
):
    changes = [{"mask": bit_fields(key)} if overlapping else {} for key in KEYS]
    records = [make_record(key, image_format, 1, dtype, **change) for key, change in zip(KEYS, changes, strict=True)]
    info = write_records(
        tmp_path / "records", {"train": [records[:3], records[3:]]}, dtype=dtype, overlapping=overlapping
    )
    lookup = fill(info, info.shard_files(str(tmp_path / "records"), ["train"]), folder).lookup
    places = [4, 0, 3, 3]
    batch = {name: tensor.numpy() for name, tensor in lookup(tf.constant(places, tf.int64)).items()}
    assert batch["image"].dtype == dtype
    assert batch["mask"].dtype == ("uint16" if overlapping else "uint8")
    for row, place in enumerate(places):
        np.testing.assert_array_equal(batch["image"][row], decode_pixels(records[place], dtype))
        np.testing.assert_array_equal(batch["mask"][row], decode_mask(records[place].mask))
        assert batch["source_id"][row].decode() == records[place].source_id
        assert batch["group"][row].decode() == records[place].group


def test_places_are_counted_over_all_shards_in_their_order(made, folder, monkeypatch):
    info, files, _ = made
    monkeypatch.setattr(cache, "_BATCH_BYTES", 2 * 6 * 10 * 4)  # filled two, two and one at a time
    done = []
    filled = fill(info, files, folder, done.append)
    assert [key.decode() for key in filled.lookup(tf.range(5))["source_id"].numpy()] == KEYS
    assert done == [2, 4, 5]


def test_groups_without_a_name_and_names_beyond_ascii_survive(tmp_path, make_record, write_records, folder):
    records = [make_record("a", group=""), make_record("b", source_id="Zürich/β", group="")]
    info = write_records(tmp_path / "records", {"train": [records]})
    batch = fill(info, info.shard_files(str(tmp_path / "records"), ["train"]), folder).lookup(tf.range(2))
    assert [text.decode() for text in batch["source_id"].numpy()] == ["a", "Zürich/β"]
    assert batch["group"].numpy().tolist() == [b"", b""]


def test_batches_have_static_shapes_within_nested_functions_of_datasets(made, folder):
    info, files, by_key = made
    lookup = fill(info, files, folder).lookup

    def epoch(number):
        indices = tf.data.Dataset.range(5).shuffle(5, seed=3)
        return indices.batch(2, drop_remainder=True).map(lookup, 2, deterministic=True)

    batches = tf.data.Dataset.range(3).flat_map(epoch)
    assert batches.element_spec["image"] == tf.TensorSpec([2, 6, 10, 3], tf.uint8)
    assert batches.element_spec["mask"] == tf.TensorSpec([2, 6, 10], tf.uint8)
    assert batches.element_spec["group"] == tf.TensorSpec([2], tf.string)
    for batch in batches:
        for key, image in zip(batch["source_id"].numpy(), batch["image"].numpy(), strict=True):
            np.testing.assert_array_equal(image, decode_pixels(by_key[key.decode()], "uint8"))


def test_mirrored_devices_get_the_same_examples(made, folder):
    info, files, _ = made
    filled = fill(info, files, folder)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    batches = tf.data.Dataset.range(5).batch(2, drop_remainder=True).map(filled.lookup)
    found = [batch["source_id"].numpy().tolist() for batch in strategy.experimental_distribute_dataset(batches)]
    assert found == [[b"a0", b"a1"], [b"a2", b"b0"]]


def test_a_cache_is_not_mirrored(made):
    info, files, _ = made
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), pytest.raises(AssertionError, match="scope"):
        fill(info, files)


def test_a_place_beyond_the_last_is_an_error(made, folder):
    info, files, _ = made
    with pytest.raises(tf.errors.InvalidArgumentError):
        fill(info, files, folder).lookup(tf.constant([5], tf.int64))


# --- memory


def resident_mib(kind: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_holds_the_pixels_once_and_gets_them_back(made, folder, monkeypatch):
    info, files, _ = made
    monkeypatch.setattr(cache, "_BATCH_BYTES", 2**20)
    files = [dataclasses.replace(files[0], length=1024)]
    examples = tf.data.Dataset.range(1024).map(
        lambda place: {"image": tf.fill([256, 512, 1], tf.cast(place, tf.uint8))}
    )
    before = resident_mib("RssAnon")
    filled = fill_cache(info, files, examples, ignore, folder)
    # Whatever an iterator copies, it copies for itself.
    iterators = [iter(tf.data.Dataset.range(1024).batch(1).map(filled.lookup)) for _ in range(3)]
    assert [int(next(iterator)["image"][0, 0, 0, 0]) for iterator in iterators] == [0, 0, 0]
    held = 128 if folder is None else 0
    assert held - 8 < resident_mib("RssAnon") - before < held + 40
    del iterators
    filled.close()
    gc.collect()  # functions of datasets are cycles
    assert resident_mib("RssAnon") - before < 40


def test_a_file_is_read_where_it_lies(made, tmp_path):
    info, files, _ = made
    filled = fill(info, files, tmp_path / "cache")
    np.load(tmp_path / "cache" / "image.npy", mmap_mode="r+")[2] = 7
    assert (filled.lookup(tf.constant([2]))["image"].numpy() == 7).all()


# --- the file's life


def test_a_whole_file_of_the_same_shards_is_used_again(made, tmp_path):
    info, files, _ = made
    fill(info, files, tmp_path / "cache")
    examples = decoded(info, files)
    for file in files:
        Path(file.path).unlink()  # decoding again would fail
    done = []
    again = fill_cache(info, files, examples, done.append, tmp_path / "cache")
    assert [key.decode() for key in again.lookup(tf.range(5))["source_id"].numpy()] == KEYS
    assert done == [5]


@pytest.mark.parametrize("changed", ["fingerprint", "shards", "lost"])
def test_a_file_of_other_examples_is_replaced(made, tmp_path, changed):
    info, files, _ = made
    fill(info, files, tmp_path / "cache")
    np.load(tmp_path / "cache" / "image.npy", mmap_mode="r+")[:] = 7
    if changed == "fingerprint":
        info = dataclasses.replace(info, fingerprint="0" * 64)
    elif changed == "shards":
        files = files[::-1]
    else:
        files = [dataclasses.replace(files[0], lost=(3,)), files[1]]
    expected = [example["image"].numpy() for example in decoded(info, files)]
    found = fill(info, files, tmp_path / "cache").lookup(tf.range(5))["image"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["content.json", "image.npy", "source_id.npy"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_file_cut_short_is_replaced(made, tmp_path, name, keep):
    info, files, _ = made
    fill(info, files, tmp_path / "cache")
    path = tmp_path / "cache" / name
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    found = fill(info, files, tmp_path / "cache").lookup(tf.range(5))
    assert [key.decode() for key in found["source_id"].numpy()] == KEYS


def test_what_a_killed_run_left_is_never_used_and_goes(made, tmp_path):
    info, files, by_key = made
    fill(info, files, tmp_path / "cache")
    # As if killed just before the renaming, with pixels that never reached the disk.
    (tmp_path / "cache").rename(tmp_path / "cache.partial")
    np.load(tmp_path / "cache.partial" / "image.npy", mmap_mode="r+")[:] = 7
    found = fill(info, files, tmp_path / "cache").lookup(tf.constant([1]))["image"][0]
    np.testing.assert_array_equal(found, decode_pixels(by_key["a1"], "uint8"))
    assert not (tmp_path / "cache.partial").exists()


def test_closing_deletes_the_file_and_nothing_else(made, tmp_path):
    info, files, _ = made
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    fill(info, files, tmp_path / "run" / "cache").close()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model.keras"]


@contextlib.contextmanager
def files_of_at_most(num_bytes: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_while_writing_is_one_line_and_leaves_nothing(made, tmp_path):
    info, files, _ = made
    examples = decoded(info, files)
    with files_of_at_most(600), pytest.raises(ValueError, match="--input.cache_file_mib") as error:
        fill_cache(info, files, examples, ignore, tmp_path / "run" / "cache")
    assert "\n" not in str(error.value)
    assert "expected 1 MiB of room" in str(error.value)
    assert list((tmp_path / "run").iterdir()) == []


def test_more_memory_than_there_can_be_is_one_line(made):
    info, files, _ = made
    huge = tf.data.Dataset.range(5).map(lambda _: {"image": tf.zeros([1 << 20, 1 << 20, 1 << 5], tf.uint8)})
    with pytest.raises(ValueError, match=r"expected 167,772,160 MiB of memory.*--input\.cache_mib"):
        fill_cache(info, files, huge, ignore)


def test_damage_met_while_filling_is_tensorflows_error_and_leaves_nothing(made, tmp_path, folder):
    info, files, _ = made
    data = bytearray(Path(files[1].path).read_bytes())
    data[40] ^= 1
    Path(files[1].path).write_bytes(data)
    with pytest.raises(tf.errors.DataLossError):
        fill(info, files, folder)
    assert folder is None or list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(("length", "found"), [(4, "expected 6 examples .* found 5"), (2, "expected 4 .* found more")])
def test_another_number_of_examples_than_the_shards_should_have_is_an_error(made, folder, length, found):
    info, (first, second), _ = made
    with pytest.raises(ValueError, match=found):
        fill(info, [dataclasses.replace(first, length=length), second], folder)
    assert folder is None or list(folder.parent.iterdir()) == []
