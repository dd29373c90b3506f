import random
import struct

import pytest
import tensorflow as tf

from records.shards import FRAME_BYTES, Shard, frame, masked_crc, read_record, read_shard

RECORDS = [b"first", b"", bytes(range(256)) * 5, b"\0" * 13]
OFFSETS = [0, 21, 37, 37 + 1280 + 16]  # each frame adds 16 bytes


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "made-train.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(frame(record) for record in RECORDS))
    return path


def flip(path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(bytes(data))


def test_the_bytes_are_those_of_tensorflows_own_writer(path, tmp_path):
    theirs = tmp_path / "theirs"
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert path.read_bytes() == theirs.read_bytes()
    assert path.stat().st_size == sum(len(record) + FRAME_BYTES for record in RECORDS)


def test_tensorflow_reads_what_was_written(path):
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == RECORDS


def test_the_masked_checksum_of_a_known_value():
    # RFC 3720, B.4: the CRC32C of 32 zero bytes is 0x8a9136aa. Rotated right by 15 bits it is 0x6d551522.
    assert masked_crc(bytes(32)) == (0x6D551522 + 0xA282EAD8) % 2**32


def test_reading_a_shard_gives_its_records_in_order(path):
    assert list(read_shard(str(path))) == RECORDS


def test_an_empty_shard_has_no_records(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert list(read_shard(str(tmp_path / "empty"))) == []


def test_one_record_is_read_from_its_offset(path):
    for offset, record in zip(OFFSETS, RECORDS, strict=True):
        assert read_record(str(path), offset) == record


def test_an_offset_at_the_end_or_within_a_record_is_refused(path):
    size = path.stat().st_size
    with pytest.raises(ValueError, match=rf"{path}: expected a record at byte {size}, found the end of the file"):
        read_record(str(path), size)
    with pytest.raises(ValueError, match=rf"{path}: record at byte 40: the length in its frame is damaged"):
        read_record(str(path), 40)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (OFFSETS[2] + 5, "record 2: the length in its frame is damaged"),
        (OFFSETS[2] + 12, "record 2: truncated, expected 1280 bytes, found 0"),
        (OFFSETS[2] + 12 + 100, "record 2: truncated, expected 1280 bytes, found 96"),
        (OFFSETS[3] - 1, "record 2: truncated, expected 1280 bytes, found 1279"),
    ],
)
def test_a_truncated_shard_names_file_and_record_after_giving_those_before(path, kept, message):
    path.write_bytes(path.read_bytes()[:kept])
    records = read_shard(str(path))
    assert [next(records), next(records)] == RECORDS[:2]
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        next(records)


@pytest.mark.parametrize("position", [0, 7, 8, 11])
def test_a_flipped_bit_in_a_length_or_its_checksum_names_file_and_record(path, position):
    flip(path, OFFSETS[2] + position)
    with pytest.raises(ValueError, match=f"{path}: record 2: the length in its frame is damaged"):
        list(read_shard(str(path)))


@pytest.mark.parametrize("position", [12, 500, 12 + 1279, 12 + 1280, 12 + 1283])
def test_a_flipped_bit_in_a_body_or_its_checksum_names_file_and_record(path, position):
    flip(path, OFFSETS[2] + position)
    with pytest.raises(ValueError, match=f"{path}: record 2: its 1280 bytes fail their checksum"):
        list(read_shard(str(path)))
    with pytest.raises(ValueError, match=f"{path}: record at byte {OFFSETS[2]}: its 1280 bytes fail"):
        read_record(str(path), OFFSETS[2])
    assert read_record(str(path), OFFSETS[3]) == RECORDS[3]


def test_no_single_flipped_bit_goes_unseen(tmp_path):
    path = tmp_path / "one"
    for position in range(FRAME_BYTES + 3):
        path.write_bytes(frame(b"abc"))
        flip(path, position)
        with pytest.raises(ValueError, match="record 0"):
            list(read_shard(str(path)))


def test_a_frame_is_length_checksum_body_checksum():
    data = frame(b"abc")
    assert struct.unpack("<Q", data[:8]) == (3,)
    assert data[12:15] == b"abc"
    assert struct.unpack("<I", data[8:12]) == (masked_crc(data[:8]),)
    assert struct.unpack("<I", data[15:]) == (masked_crc(b"abc"),)


def test_a_shards_name_has_split_index_and_count():
    assert Shard("nuclei", "train", 3, 16).name == "nuclei-train.tfrecord-00003-of-00016"
    assert Shard("a_1", "val", 0, 123456).name == "a_1-val.tfrecord-00000-of-123456"


def test_a_name_is_parsed_back():
    generator = random.Random(0)
    for _ in range(20):
        count = generator.randrange(1, 200_000)
        shard = Shard("nuclei_2018", generator.choice(["train", "val", "test"]), generator.randrange(count), count)
        assert Shard.parse(shard.name) == shard


@pytest.mark.parametrize(
    "name",
    [
        "info.json",
        "nuclei-train.tfrecord-00003-of-00016.json",
        "nuclei-train.tfrecord-00003-of-00016.tmp",
        "nuclei-train.tfrecord-3-of-16",
        "nuclei-train.tfrecord-00003",
        "Nuclei-train.tfrecord-00003-of-00016",
        "",
    ],
)
def test_the_name_of_another_file_is_no_shards(name):
    assert Shard.parse(name) is None
