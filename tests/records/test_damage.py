"""Laws of finding damage: exactly the lost records are named, and another shard is no damage."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import google_crc32c
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records.damage import LostRecord, find_damage, stored_records
from records.info import read_info
from records.schema import encode
from records.shards import FRAME_BYTES, frame
from tests.records.damaging import KEYS, damage, first_file, flip, mended, owner, refused, starts, write_offsets

# --- what is lost


@pytest.mark.parametrize("byte", [0, 7], ids=["lowest", "highest"])
@pytest.mark.parametrize("part", ["length", "its checksum"])
def test_a_damaged_length_loses_no_record(made, tmp_path, part, byte):
    folder, info, bodies = made
    path = first_file(folder, info).path
    flip(path, 8 * (starts(bodies)[1] + (byte if part == "length" else 8 + byte // 2)) + 3)
    assert damage(folder, info) == ()
    files, damaged = mended(folder, info, tmp_path / "run")
    assert [shard.lost for shard in damaged] == [()]
    assert (files[0].length, files[0].lost) == (4, ())
    # The whole shard as it was written.
    assert f"{google_crc32c.value(Path(files[0].path).read_bytes()):08x}" == info.splits["train"].shard_crc32c[0]


def test_a_flipped_bit_of_a_body_loses_that_record_alone(made):
    folder, info, bodies = made
    flip(first_file(folder, info).path, 8 * (starts(bodies)[2] + 12 + 40))
    assert damage(folder, info) == (LostRecord(2, "a2", f"its {len(bodies[2])} bytes fail their checksum"),)


def test_damage_in_several_records_and_frames_is_told_apart(made):
    folder, info, bodies = made
    path = first_file(folder, info).path
    for byte in (starts(bodies)[1] + 2, starts(bodies)[2] + 12, starts(bodies)[3] + 20):
        flip(path, 8 * byte)
    assert [record.position for record in damage(folder, info)] == [2, 3]


def test_a_cut_shard_loses_what_is_behind_the_cut(made):
    folder, info, bodies = made
    path = Path(first_file(folder, info).path)
    path.write_bytes(path.read_bytes()[: starts(bodies)[2] + 12 + 33])
    assert damage(folder, info) == (
        LostRecord(2, "a2", f"truncated, expected {len(bodies[2])} bytes, found 33"),
        LostRecord(3, "a3", f"truncated, expected {len(bodies[3])} bytes, found 0"),
    )


def test_bytes_behind_the_end_lose_no_record(made, tmp_path):
    folder, info, bodies = made
    path = Path(first_file(folder, info).path)
    path.write_bytes(path.read_bytes() + bytes(100))
    files, _ = mended(folder, info, tmp_path / "run")
    assert Path(files[0].path).read_bytes() == b"".join(map(frame, bodies))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bits_are_found_named_and_mended(made, data):
    folder, info, bodies = made
    file = first_file(folder, info)
    whole = Path(file.path).read_bytes()
    bits = data.draw(st.sets(st.integers(0, 8 * len(whole) - 1), min_size=1, max_size=3))
    for bit in bits:
        flip(file.path, bit)
    try:
        hit = {owner(bodies, bit // 8) for bit in bits}
        lost = {index for index, part in hit if part == "body"}
        if lost:
            # With other bytes unsure, a record whose own checksum is wrong is not to be trusted.
            lost |= {index for index, part in hit if part == "footer"}
        assert {(record.position, record.key) for record in damage(folder, info)} == {(i, KEYS[i]) for i in lost}
        with TemporaryDirectory() as out:
            if len(lost) == len(bodies):
                return
            (file, other, _), (shard,) = mended(folder, info, out)
            left = [body for index, body in enumerate(bodies) if index not in lost]
            assert list(tf.data.TFRecordDataset(file.path).as_numpy_iterator()) == left
            assert Path(file.path).read_bytes() == b"".join(map(frame, left))
            assert (file.length, file.num_bytes) == (len(left), Path(file.path).stat().st_size)
            assert file.lost == tuple(sorted(lost)) == tuple(record.position for record in shard.lost)
            assert other == info.shard_files(str(folder), ["train"])[1]
    finally:
        Path(first_file(folder, info).path).write_bytes(whole)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_of_a_shard_cut_anywhere_the_records_before_the_cut_are_left(made, data):
    folder, info, bodies = made
    path = Path(first_file(folder, info).path)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    try:
        ends = [start + FRAME_BYTES + len(body) for start, body in zip(starts(bodies), bodies, strict=True)]
        # Without the last four bytes, a checksum, the whole file's still proves every record.
        expected = [index for index, end in enumerate(ends) if end > cut] if cut < len(whole) - 4 else []
        assert [record.position for record in damage(folder, info)] == expected
    finally:
        path.write_bytes(whole)


# --- another shard


def unlabelled(make_record, keys, name_lengths=(20, 20, 20), **changes):
    lengths = zip(keys, name_lengths, strict=True)
    return [make_record(key, "raw", filename="f" * n, mask=None, instances=None, **changes) for key, n in lengths]


STRANGERS = {
    "other keys, the same lengths": ("z0", "z1", "z2"),
    "the same keys, other lengths": ("a0", "a1", "a2"),
    "the same records in another order": ("a1", "a0", "a2"),
}


@pytest.mark.parametrize("state", ["whole", "a bit flipped", "cut"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_another_datasets_shard_of_the_same_size_is_refused(tmp_path, make_record, write_records, stranger, state):
    folder = tmp_path / "records"
    records = unlabelled(make_record, ("a0", "a1", "a2"))
    info = write_records(folder, {"train": [records]})
    write_offsets(folder, {info.shards("train")[0]: records})
    lengths = (30, 10, 20) if "other lengths" in stranger else (20, 20, 20)
    data = b"".join(frame(encode(record)) for record in unlabelled(make_record, STRANGERS[stranger], lengths))
    path = folder / info.shards("train")[0].name
    assert len(data) == path.stat().st_size
    path.write_bytes(data[:-50] if state == "cut" else data)
    if state == "a bit flipped":
        flip(path, 8 * (len(data) - 50))
    assert refused(folder, info, tmp_path / "run", ["train"]).startswith(f"{path}: expected the shard that info.json")


def test_records_of_the_same_keys_and_lengths_with_other_pixels_are_another_shard(tmp_path, make_record, write_records):
    folder = tmp_path / "records"
    records = unlabelled(make_record, ("a0", "a1", "a2"))
    info = write_records(folder, {"train": [records]})
    write_offsets(folder, {info.shards("train")[0]: records})
    path = folder / info.shards("train")[0].name
    black = unlabelled(make_record, ("a0", "a1", "a2"), image=bytes(180))
    path.write_bytes(b"".join(frame(encode(record)) for record in black))
    assert refused(folder, info, tmp_path / "run", ["train"]).startswith(f"{path}: expected the shard that info.json")


def test_sound_records_that_are_no_examples_are_another_shard(made, tmp_path):
    folder, info, bodies = made
    path = Path(first_file(folder, info).path)
    path.write_bytes(b"".join(frame(bytes(len(body))) for body in bodies))
    assert refused(folder, info, tmp_path / "run").startswith(f"{path}: expected the shard that info.json")


def test_two_shards_exchanged_are_refused(made, tmp_path):
    folder, info, _ = made
    first, second = (Path(file.path) for file in info.shard_files(str(folder), ["train"]))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert refused(folder, info, tmp_path / "run").startswith(f"{first}: expected the shard that info.json")


def test_a_missing_shard_is_refused(made, tmp_path):
    folder, info, _ = made
    path = Path(first_file(folder, info).path)
    path.unlink()
    message = f"{path}: expected a shard, found no such file; put it back, or make the records anew with --overwrite"
    assert refused(folder, info, tmp_path / "run") == message
    with pytest.raises(ValueError, match=f"{path}: expected \\d+ bytes, found no such file"):
        read_info(str(folder), check_shards=False)


# --- offsets.parquet


@pytest.mark.parametrize("fault", ["missing", "cut", "junk", "of other records", "shifted"])
def test_without_sound_offsets_damage_is_refused_and_the_table_named(made, tmp_path, fault):
    folder, info, bodies = made
    flip(first_file(folder, info).path, 8 * (starts(bodies)[1] + 50))
    path = folder / "offsets.parquet"
    table = pd.read_parquet(path)
    if fault == "missing":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif fault == "junk":
        path.write_text(json.dumps({"no": "table"}))
    elif fault == "of other records":
        table[table["key"] != "a3"].to_parquet(path)
    else:
        table.assign(offset=table["offset"] + 1).to_parquet(path)
    message = refused(folder, info, tmp_path / "run")
    assert message.startswith(f"{path}: ")
    assert message.endswith("`python -m preprocess` with --overwrite makes them anew")


def test_the_offsets_that_preprocess_writes_are_those_of_the_shards(nuclei_records):
    info = read_info(str(nuclei_records))
    for file in info.shard_files(str(nuclei_records), ["train", "val", "test"]):
        assert find_damage(file, info.stored_crc32c(file), stored_records(str(nuclei_records), file)) == ()
