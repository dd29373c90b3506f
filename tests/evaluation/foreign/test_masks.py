"""Which file is the prediction of which record, and what its values mean."""

import numpy as np
import pytest

from evaluation.foreign.masks import read_masks
from evaluation.foreign.names import RecordNames
from evaluation.pictures import file_name
from records.schema import decode
from records.shards import read_shard
from tests.evaluation.foreign.truth import write_masks, write_truth

MASK = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
HOSTILE = ['a,"b"', "line\nbreak", "=1+1", "ünï cøde", "scan/y00000x00000", "'; rm -rf x", "<img>", ".hidden", "x" * 90]


def blank(keys) -> dict[str, np.ndarray]:
    return dict.fromkeys(keys, MASK)


def read_all(tmp_path, info, instances=False, missing_is_empty=False):
    """Returns the predictions in tmp_path/masks by key, and what was told."""
    told = []
    names = RecordNames(str(tmp_path / "records"), "test")
    read = read_masks(tmp_path / "masks", names, info, instances, missing_is_empty, told.append)
    files = info.shard_files(str(tmp_path / "records"), ["test"])
    records = [decode(data) for file in files for data in read_shard(file.path)]
    return {record.source_id: read(record) for record in records}, told


def numbered(keys) -> dict[str, np.ndarray]:
    """A mask for each key that no other has."""
    bits = [[index + 1 >> bit & 1 for bit in range(6)] for index in range(len(keys))]
    return {key: np.array(row, np.uint8).reshape(MASK.shape) for key, row in zip(keys, bits, strict=True)}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("its key", lambda key: key),
        ("as test.py calls it", file_name),
        ("as test.py calls it, in a folder", lambda key: f"deep/er/{file_name(key)}"),
        ("the last part of its key", lambda key: key.rpartition("/")[2]),
        ("its raw image without extension", lambda key: f"IMG-{key[-1]}"),
        ("its raw image with extension", lambda key: f"out/IMG-{key[-1]}.jpeg"),
    ],
)
def test_a_record_is_called_in_several_ways(tmp_path, kind, name):
    keys = ["left/scan.1", "left/scan.2", "right/scan.3"]
    info = write_truth(tmp_path / "records", blank(keys), {key: f"raw/IMG-{key[-1]}.jpeg" for key in keys})
    masks = numbered(keys)
    write_masks(tmp_path / "masks", {name(key): mask for key, mask in masks.items()})
    found, told = read_all(tmp_path, info)
    assert told == []
    for key, mask in masks.items():
        np.testing.assert_array_equal(found[key].mask, mask)
        assert found[key].objects is None


def test_hostile_keys_are_found_as_test_py_calls_them(tmp_path):
    info = write_truth(tmp_path / "records", blank(HOSTILE), dict.fromkeys(HOSTILE, "images/one.png"))
    masks = numbered(HOSTILE)
    write_masks(tmp_path / "masks", {file_name(key): mask for key, mask in masks.items()})
    found, _ = read_all(tmp_path, info)
    for key, mask in masks.items():
        np.testing.assert_array_equal(found[key].mask, mask)


def test_a_key_goes_before_what_else_a_name_may_mean(tmp_path):
    keys = ["scan", "left/scan"]
    info = write_truth(tmp_path / "records", blank(keys))
    masks = numbered(keys)
    write_masks(tmp_path / "masks", masks)
    found, _ = read_all(tmp_path, info)
    for key in keys:
        np.testing.assert_array_equal(found[key].mask, masks[key])


def test_a_name_that_fits_two_records_is_refused(tmp_path):
    info = write_truth(tmp_path / "records", blank(["a/scan", "b/scan"]))
    write_masks(tmp_path / "masks", {"scan": MASK})
    with pytest.raises(
        ValueError,
        match=r"scan.png: expected the name of one record, found 'scan', which fits 'a/scan' "
        "and 'b/scan'; use keys",
    ):
        read_all(tmp_path, info)


def test_two_files_for_one_record_are_refused(tmp_path):
    info = write_truth(tmp_path / "records", blank(["a/scan", "b/other"]))
    write_masks(tmp_path / "masks", blank(["a/scan", "scan", "other"]))
    with pytest.raises(
        ValueError, match=r"one file for the record 'a/scan', found .*a/scan.png and .*masks/scan.png; "
    ):
        read_all(tmp_path, info)


def test_files_of_no_record_are_refused_and_those_of_other_splits_counted(tmp_path):
    info = write_truth(tmp_path / "records", blank(["one", "two"]), elsewhere={"there/three": "x/IMG3.jpg"})
    write_masks(tmp_path / "masks", blank(["one", "two", "there/three"]))
    write_masks(tmp_path / "masks", blank(["more/IMG3"]))
    found, told = read_all(tmp_path, info)
    assert set(found) == {"one", "two"}
    assert told == ["2 of 4 files are of images that are not in this split: they are left out"]
    write_masks(tmp_path / "masks", blank(["four", "five"]))
    with pytest.raises(
        ValueError, match=r"called as the records' keys .*, found .*five.png \(2 of 6 files\), which no"
    ):
        read_all(tmp_path, info)


def test_missing_files_are_refused_or_empty(tmp_path):
    info = write_truth(tmp_path / "records", blank(["one", "two", "three"]))
    write_masks(tmp_path / "masks", blank(["two"]))
    with pytest.raises(
        ValueError, match="a file for each of 3 records, found none for 2, such as 'one'; --missing empty"
    ):
        read_all(tmp_path, info)
    found, told = read_all(tmp_path, info, missing_is_empty=True)
    assert told == ["2 of 3 records have no file: nothing is predicted there"]
    assert found["one"].mask.shape == (2, 3)
    assert not found["one"].mask.any() and found["two"].mask.any()


def test_a_folder_without_masks_is_refused(tmp_path):
    info = write_truth(tmp_path / "records", blank(["one", "two"]))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "one.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a mask for each record as a PNG file, found none"):
        read_all(tmp_path, info, missing_is_empty=True)


@pytest.mark.parametrize("values", [np.uint8([0, 255]), np.uint8([0, 1]), np.uint16([0, 700])])
def test_of_two_classes_whatever_is_not_0_is_the_class(tmp_path, values):
    info = write_truth(tmp_path / "records", blank(["one", "two"]))
    write_masks(tmp_path / "masks", dict.fromkeys(("one", "two"), values[MASK]))
    found, _ = read_all(tmp_path, info)
    np.testing.assert_array_equal(found["one"].mask, MASK)
    assert found["one"].mask.dtype == np.uint8


def test_values_may_number_objects(tmp_path):
    info = write_truth(tmp_path / "records", blank(["one", "two"]))
    numbers = MASK.astype(np.uint16) * np.uint16([7, 300, 9])
    write_masks(tmp_path / "masks", dict.fromkeys(("one", "two"), numbers))
    found, _ = read_all(tmp_path, info, instances=True)
    np.testing.assert_array_equal(found["one"].mask, MASK)
    np.testing.assert_array_equal(found["one"].objects, numbers)


def test_of_several_classes_values_are_theirs(tmp_path):
    classes = ["background", "road", "car"]
    info = write_truth(tmp_path / "records", blank(["one", "two"]), classes=classes)
    write_masks(tmp_path / "masks", {"one": 2 * MASK, "two": MASK.astype(np.uint16)})
    found, _ = read_all(tmp_path, info)
    np.testing.assert_array_equal(found["one"].mask, 2 * MASK)
    assert found["two"].mask.dtype == np.uint8
    for wrong in (3, 255):
        write_masks(tmp_path / "masks", {"two": wrong * MASK})
        with pytest.raises(ValueError, match=rf"two.png: expected .* an index of the classes .*0 to 2, found {wrong}"):
            read_all(tmp_path, info)
    with pytest.raises(
        ValueError, match="instances: expected records of one class .*, found background, road, car; num"
    ):
        read_all(tmp_path, info, instances=True)


def test_overlapping_classes_are_bit_fields(tmp_path):
    masks = {key: MASK.astype(np.uint16) for key in ("one", "two")}
    info = write_truth(tmp_path / "records", masks, classes=["Fish", "Sugar", "Flower"], overlapping=True)
    write_masks(tmp_path / "masks", {"one": 7 * MASK, "two": 5 * MASK.astype(np.uint16)})
    found, _ = read_all(tmp_path, info)
    np.testing.assert_array_equal(found["one"].mask, 7 * MASK)
    assert found["one"].mask.dtype == np.uint16
    for wrong in (8, 1 << 15):
        write_masks(tmp_path / "masks", {"two": wrong * MASK.astype(np.uint16)})
        with pytest.raises(ValueError, match=rf"two.png: expected .* the bits of the classes .*0 to 7, found {wrong}"):
            read_all(tmp_path, info)


def test_a_mask_of_another_size_or_a_damaged_one_is_refused_by_name(tmp_path):
    info = write_truth(tmp_path / "records", blank(["one", "two"]))
    write_masks(tmp_path / "masks", {"one": MASK, "two": MASK.repeat(2, 0)})
    with pytest.raises(ValueError, match=r"two.png: expected the size of its record, 2x3, found 4x3; .* --size null"):
        read_all(tmp_path, info)
    path = tmp_path / "masks" / "two.png"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="two.png: .*PNG"):
        read_all(tmp_path, info)
