"""Laws of verify: each fault is named with its file and record."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imaging.codec import decode_mask, encode_png
from records.info import read_info
from records.schema import IGNORE_BIT, encode
from records.shards import FRAME_BYTES
from records.verify import verify
from tests.records.damaging import OVERLAPPING, bit_fields, flip_in_body


def faults_of(folder, info):
    return list(verify(str(folder), info, lambda done: None))


def test_a_sound_folder_has_no_fault_and_all_progress_is_told(small_records):
    folder, info, _ = small_records
    told = []
    assert list(verify(str(folder), info, told.append)) == []
    assert told == sorted(told)
    assert told[-1] == 7
    assert set(told) == set(range(1, 8))


def test_records_made_by_preprocess_have_no_fault(nuclei_records):
    assert faults_of(nuclei_records, read_info(str(nuclei_records))) == []


def test_a_flipped_bit_in_a_body_names_the_file_and_the_record(small_records):
    folder, info, records = small_records
    path = flip_in_body(folder, info, records)
    of_file, of_record, of_others = faults_of(folder, info)
    assert of_file.startswith(f"{path}: expected CRC32C {info.splits['train'].shard_crc32c[1]}, found ")
    assert of_record.startswith(f"{path}: record 1: its ")
    assert of_record.endswith("bytes fail their checksum")
    assert of_others == f"{path}: records behind that one were not read"  # without offsets.parquet


def test_a_fault_in_one_shard_does_not_hide_one_in_another(small_records):
    folder, info, records = small_records
    first = flip_in_body(folder, info, records)
    second = folder / info.shards("val")[0].name
    second.write_bytes(second.read_bytes()[:-1])
    faults = faults_of(folder, info)
    assert any(fault.startswith(f"{first}: record 1: ") for fault in faults)
    assert any(fault.startswith(f"{second}: record 1: truncated") for fault in faults)


@pytest.mark.parametrize("byte", [0, 9], ids=["length", "checksum of the length"])
def test_a_flipped_bit_in_a_frame_names_the_file_and_the_record(small_records, byte):
    folder, info, records = small_records
    path = folder / info.shards("train")[1].name
    data = bytearray(path.read_bytes())
    data[len(encode(records["b0"])) + FRAME_BYTES + byte] ^= 1
    path.write_bytes(data)
    faults = faults_of(folder, info)
    assert faults[0].startswith(f"{path}: expected CRC32C ")
    assert faults[1] == f"{path}: record 1: the length in its frame is damaged"


def test_a_shard_cut_within_a_record_names_the_file_and_the_record(small_records):
    folder, _, records = small_records
    info = read_info(str(folder), check_shards=False)
    path = folder / info.shards("train")[0].name
    second = len(encode(records["a0"])) + FRAME_BYTES
    path.write_bytes(path.read_bytes()[: second + 12 + 33])
    where = f"{path}: record 1: truncated, expected {len(encode(records['a1']))} bytes, found "
    assert any(fault.startswith(where) for fault in faults_of(folder, info))


def test_a_shard_of_another_dataset_of_the_same_size_is_named(tmp_path, make_record, write_records):
    # Raw pixels and keys of one length: every frame of the stranger is sound, every record decodes.
    ours, theirs = (
        [make_record(f"{name}{index}", "raw", mask=make_record("m").mask, instances=None) for index in range(3)]
        for name in "ab"
    )
    info = write_records(tmp_path / "ours", {"train": [ours]}, instances=False)
    write_records(tmp_path / "theirs", {"train": [theirs]}, instances=False)
    name = info.shards("train")[0].name
    path = tmp_path / "ours" / name
    assert path.stat().st_size == (tmp_path / "theirs" / name).stat().st_size
    path.write_bytes((tmp_path / "theirs" / name).read_bytes())
    (fault,) = faults_of(tmp_path / "ours", read_info(str(tmp_path / "ours")))
    assert fault.startswith(f"{path}: expected CRC32C {info.splits['train'].shard_crc32c[0]}, found ")


def one_fault(tmp_path, write_records, records, **changes):
    """Writes records of whose third something is wrong; returns the one fault without the place, which is checked."""
    folder = tmp_path / "faulty"
    info = write_records(folder, {"train": [records]}, **changes)
    (fault,) = faults_of(folder, info)
    where = f"{folder / info.shards('train')[0].name}: record 2: "
    assert fault.startswith(where)
    return fault.removeprefix(where)


def test_a_mask_with_unknown_labels_names_the_record(tmp_path, make_record, write_records):
    mask = np.zeros((6, 10), np.uint8)
    mask[2, 3], mask[5, 9], mask[0, 0] = 2, 128, 255  # 255 is allowed
    records = [make_record("a0"), make_record("a1"), make_record("a2", mask=encode_png(mask))]
    message = one_fault(tmp_path, write_records, records)
    assert message == "its mask holds [2, 128]; the classes are 0 to 1, 255 = ignore"


def test_each_disagreement_between_a_record_and_its_pixels_names_the_record(tmp_path, make_record, write_records):
    good = [make_record("a0"), make_record("a1")]
    small = np.zeros((6, 9), np.uint8)
    wrong = {
        "its image is (6, 10, 3), its keys say (10, 6, 3)": {"height": 10, "width": 6},
        "its mask is (6, 9), its image (6, 10)": {"mask": encode_png(small)},
        "its instance map is uint8(6, 10), expected uint16(6, 10)": {
            "instances": encode_png(small.repeat(2, 1)[:, :10])
        },
        "expected a mask": {"mask": None},
    }
    for number, (message, changes) in enumerate(wrong.items()):
        records = [*good, make_record("a2", **changes)]
        assert one_fault(tmp_path / str(number), write_records, records) == message


def test_an_image_of_another_kind_than_the_rest_names_the_record(tmp_path, make_record, write_records):
    good = [make_record("a0"), make_record("a1")]
    grey = one_fault(tmp_path / "grey", write_records, [*good, make_record("a2", channels=1)])
    assert grey == "expected 3 channels of uint8, found 1 of uint8"
    deep = one_fault(tmp_path / "deep", write_records, [*good, make_record("a2", dtype="uint16")])
    assert deep == "expected 3 channels of uint8, found 3 of uint16"
    large = make_record(
        "a2",
        image=encode_png(np.zeros((7, 10, 3), np.uint8)),
        height=7,
        mask=encode_png(np.zeros((7, 10), np.uint8)),
        instances=None,
    )
    assert one_fault(tmp_path / "large", write_records, [*good, large]) == "expected 6x10, found 7x10"


def test_a_damaged_image_names_the_record(tmp_path, make_record, write_records):
    damaged = bytearray(make_record("a2").image)
    damaged[-20] ^= 1
    records = [make_record("a0"), make_record("a1"), make_record("a2", image=bytes(damaged))]
    assert "fails its checksum" in one_fault(tmp_path, write_records, records)


def test_a_16_bit_mask_is_a_fault(tmp_path, make_record, write_records):
    # tf.io.decode_png to uint8 keeps the upper byte: training would see background alone.
    mask = decode_mask(make_record("a2").mask).astype(np.uint16)
    records = [make_record("a0"), make_record("a1"), make_record("a2", mask=encode_png(mask))]
    assert "uint16" in one_fault(tmp_path, write_records, records)


def test_overlapping_classes_and_raw_pixels_have_no_fault(tmp_path, make_record, write_records):
    masks = [bit_fields(0b111, 0b010), bit_fields(IGNORE_BIT, IGNORE_BIT + 0b001, 0b100)]
    shard = [make_record(f"a{number}", "raw", mask=mask) for number, mask in enumerate(masks)]
    info = write_records(tmp_path, {"train": [shard]}, **OVERLAPPING)
    split = info.splits["train"]
    assert (split.class_pixels, split.ignored_pixels, split.class_examples) == ([1, 2, 2], 2, [1, 1, 2])
    assert faults_of(tmp_path, info) == []


def test_an_unknown_bit_names_the_record(tmp_path, make_record, write_records):
    strange = bit_fields(1 << 3, 1 << 14, IGNORE_BIT + (1 << 5), 0b111)
    good = [make_record(key, mask=bit_fields(0b101, IGNORE_BIT)) for key in ("a0", "a1")]
    message = one_fault(tmp_path / "bits", write_records, [*good, make_record("a2", mask=strange)], **OVERLAPPING)
    assert message == "its mask holds the bits [3, 5, 14]; the classes are bits 0 to 2, bit 15 = ignore"
    message = one_fault(tmp_path / "indices", write_records, [*good, make_record("a2")], **OVERLAPPING)
    assert message == "expected a mask of uint16, found uint8"


def test_raw_pixels_of_a_wrong_length_or_among_image_files_name_the_record(tmp_path, make_record, write_records):
    good = [make_record("a0", "raw"), make_record("a1", "raw")]
    short = make_record("a2", "raw", image=make_record("a2", "raw").image[:-3])
    message = one_fault(tmp_path / "short", write_records, [*good, short])
    assert message == "image/encoded: expected 180 bytes of raw uint8[6, 10, 3], found 177"
    message = one_fault(tmp_path / "file", write_records, [*good, make_record("a2")])
    assert message == "expected an image coded as 'raw', found the format 'png'"


def test_missing_instances_are_a_fault_where_the_folder_promises_them(tmp_path, make_record, write_records):
    records = [make_record("a0"), make_record("a1"), make_record("a2", instances=None)]
    assert "instance map" in one_fault(tmp_path, write_records, records)


def test_a_duplicate_key_names_both_records_even_in_other_splits(tmp_path, make_record, write_records):
    folder = tmp_path / "twice"
    shards = {"train": [[make_record("a0"), make_record("a1")]], "test": [[make_record("b0"), make_record("a1")]]}
    info = write_records(folder, shards)
    train, test = folder / info.shards("train")[0].name, folder / info.shards("test")[0].name
    assert faults_of(folder, info) == [f"{test}: record 1: the key 'a1' is also that of {train}: record 1"]


@pytest.mark.parametrize("delta", [1, -1])
def test_a_wrong_number_of_records_names_the_shard(small_records, delta):
    folder, info, _ = small_records
    split = dataclasses.replace(info.splits["train"], shard_lengths=[3, 2 + delta])
    info = dataclasses.replace(info, splits=info.splits | {"train": split})
    (fault,) = faults_of(folder, info)
    assert fault == f"{folder / info.shards('train')[1].name}: expected {2 + delta} records, found 2"


@pytest.mark.parametrize("name", ["class_pixels", "ignored_pixels", "class_examples", "object_counts"])
def test_a_wrong_count_in_the_info_names_the_split_and_both_values(small_records, name):
    folder, info, _ = small_records
    true = getattr(info.splits["val"], name)
    false = true + 1 if isinstance(true, int) else [true[0] + 1, *true[1:]]
    split = dataclasses.replace(info.splits["val"], **{name: false})
    info = dataclasses.replace(info, splits=info.splits | {"val": split})
    (fault,) = faults_of(folder, info)
    assert fault.startswith("split val: expected ")
    assert str(false) in fault
    assert str(true) in fault


def test_a_wrong_checksum_in_the_info_names_the_file(small_records):
    folder, info, _ = small_records
    split = dataclasses.replace(info.splits["val"], shard_crc32c=["0badf00d"])
    true = info.splits["val"].shard_crc32c[0]
    info = dataclasses.replace(info, splits=info.splits | {"val": split})
    path = folder / info.shards("val")[0].name
    assert faults_of(folder, info) == [f"{path}: expected CRC32C 0badf00d, found {true}"]


def test_verify_names_every_lost_record_of_a_shard(nuclei_records, tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(nuclei_records, folder)
    info = read_info(str(folder))
    file = max(info.shard_files(str(folder), ["train"]), key=lambda file: file.length)
    table = pd.read_parquet(folder / "offsets.parquet")
    rows = table[table["shard"] == file.shard.name].sort_values("position")
    data = bytearray(Path(file.path).read_bytes())
    for position in (1, 4):
        data[int(rows["offset"].iloc[position]) + 100] ^= 1
    Path(file.path).write_bytes(data)
    faults = list(verify(str(folder), info, lambda done: None))
    assert len(faults) == 3
    assert "expected CRC32C" in faults[0]
    assert faults[1].startswith(f"{file.path}: record 1: its ")
    assert faults[2].startswith(f"{file.path}: record 4 (key {rows['key'].iloc[4]!r}): its ")


def test_verify_finds_offsets_that_are_not_the_records(nuclei_records, tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(nuclei_records, folder)
    info = read_info(str(folder))
    table = pd.read_parquet(folder / "offsets.parquet")
    table.loc[0, "key"] = "another"
    table.to_parquet(folder / "offsets.parquet", index=False)
    (fault,) = verify(str(folder), info, lambda done: None)
    assert "record 0: offsets.parquet says" in fault
    assert "another" in fault
    table.drop(columns="offset").to_parquet(folder / "offsets.parquet", index=False)
    faults = list(verify(str(folder), info, lambda done: None))
    assert faults
    assert all(f"{folder}/offsets.parquet: cannot be read" in fault for fault in faults)
