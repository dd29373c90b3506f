"""Rows of run-length code as predictions: which image, which class, which size."""

import csv

import numpy as np
import pytest

from evaluation.foreign.codes import read_codes
from evaluation.foreign.names import RecordNames
from imaging.rle import encode_rle
from records.schema import decode
from records.shards import read_shard
from tests.evaluation.foreign.truth import write_truth

MASK = np.zeros((4, 6), np.uint8)
CLOUDS = ["Fish", "Flower", "Gravel", "Sugar"]


def write_csv(tmp_path, rows, header=("ImageId", "EncodedPixels")):
    with (tmp_path / "found.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def read_all(tmp_path, info):
    """Returns the predictions of tmp_path/found.csv by key, and what was told."""
    told = []
    names = RecordNames(str(tmp_path / "records"), "test")
    read = read_codes(tmp_path / "found.csv", names, info, told.append)
    files = info.shard_files(str(tmp_path / "records"), ["test"])
    records = [decode(data) for file in files for data in read_shard(file.path)]
    return {record.source_id: read(record) for record in records}, told


def write_clouds(tmp_path, keys=("one", "two"), size=(700, 525), **settings):
    masks = {key: np.zeros(size, np.uint16) for key in keys}
    return write_truth(tmp_path / "records", masks, **{"classes": CLOUDS, "overlapping": True, **settings})


def test_a_row_is_an_object_and_images_without_rows_are_empty(tmp_path):
    info = write_truth(tmp_path / "records", dict.fromkeys(("a/one", "a/two", "a/three"), MASK))
    # Columns 1 and 2 are two objects that touch; of the last two, which overlap, the smaller is on top.
    write_csv(tmp_path, [("one.png", "1 4"), ("one.png", "5 4"), ("two", ""), ("one.png", "17 8"), ("one.png", "19 2")])
    found, told = read_all(tmp_path, info)
    assert told == ["1 of 3 images have no row: nothing is predicted there"]
    objects = found["a/one"].objects
    assert len(np.unique(objects[objects > 0])) == 4
    np.testing.assert_array_equal(found["a/one"].mask, [[1, 1, 0, 0, 1, 1]] * 4)
    assert len(set(objects[:, 4])) == 2 and objects[2, 4] == objects[3, 4] != objects[0, 4] == objects[0, 5]
    assert not found["a/two"].mask.any() and not found["a/three"].mask.any()


def test_names_may_hold_anything(tmp_path):
    keys = ['a,"b"', "line\nbreak", "=1+1", "ünï cøde", "NA", "007"]
    info = write_truth(tmp_path / "records", dict.fromkeys(keys, MASK))
    write_csv(tmp_path, [(key, f"{index + 1} 1") for index, key in enumerate(keys)])
    found, told = read_all(tmp_path, info)
    assert told == []
    for index, key in enumerate(keys):
        assert np.flatnonzero(found[key].mask.ravel(order="F")).tolist() == [index]


def test_rows_of_other_splits_are_counted_and_of_no_image_refused(tmp_path):
    info = write_truth(tmp_path / "records", dict.fromkeys(("one", "two"), MASK), elsewhere={"three": "x/IMG3.jpg"})
    rows = [("one", "1 1"), ("two", "1 1"), ("IMG3.jpg", "1 1"), ("three", "9 1")]
    write_csv(tmp_path, rows)
    assert read_all(tmp_path, info)[1] == ["2 rows are of images that are not in this split: they are left out"]
    write_csv(tmp_path, [*rows, ("four", "1 1")])
    with pytest.raises(ValueError, match=r"row 6: expected the name of an image of the records, found 'four'; choose"):
        read_all(tmp_path, info)


def test_code_of_classes_is_stretched_and_may_overlap(tmp_path):
    info = write_clouds(tmp_path)
    generator = np.random.default_rng(0)
    fish, sugar = generator.integers(0, 2, (2, 350, 525))
    rows = [("one.png_Fish", encode_rle(fish)), ("one.png_Sugar", encode_rle(sugar)), ("one.png_Gravel", "")]
    write_csv(tmp_path, rows, ("Image_Label", "EncodedPixels"))
    found, told = read_all(tmp_path, info)
    assert told == ["1 of 2 images have no row: nothing is predicted there"]
    np.testing.assert_array_equal(found["one"].mask, (fish + 8 * sugar).repeat(2, axis=0))
    assert found["one"].objects is None and found["one"].mask.dtype == np.uint16


def test_rows_of_classes_that_the_records_lack_are_counted(tmp_path):
    info = write_clouds(tmp_path, classes=["Flower", "Sugar"], size=(350, 525))
    labels = [f"{image}.png_{name}" for image in ("one", "two") for name in CLOUDS]
    write_csv(tmp_path, [(label, "3 2") for label in labels], ("Image_Label", "EncodedPixels"))
    found, told = read_all(tmp_path, info)
    assert told == ["4 rows are of classes that the records lack: they are left out"]
    assert np.unique(found["two"].mask).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns ImageId,EncodedPixels or Image_Label,EncodedPixels and rows .*, found 'nothing'"),
        ("ImageId,EncodedPixels\n", "and rows beneath them, found 'ImageId,EncodedPixels'"),
        ("id,rle\none,1 1\n", "expected the columns ImageId,EncodedPixels or .*, found 'id,rle'"),
        ("ImageId,EncodedPixels\none,1 1,7\n", "expected 2 cells in every row, found more"),
        ("ImageId,EncodedPixels\none,1 1\none,1 1,7\n", "expected a CSV file in UTF-8: .*line 3, saw 3"),
        ("ImageId,EncodedPixels\n\udc80,1 1\n", "found.csv: expected a CSV file in UTF-8"),
        ("ImageId,EncodedPixels\none,1 1\none,24 2\n", r"row 3, image 'one': expected runs inside the 24 pixels"),
        (
            "ImageId,EncodedPixels\none,-1\n",
            r"row 2, image 'one': expected run-length code of whole numbers, found '-1'",
        ),
        ("ImageId,EncodedPixels\nscan,1 1\n", r"row 2: expected the name of one record, found 'scan', which fits"),
        ("Image_Label,EncodedPixels\none,1 1\n", "row 2: expected an Image_Label such as .*, found 'one'"),
        ("Image_Label,EncodedPixels\none_background,1 1\n", "row 2: expected an Image_Label such as"),
        (
            "Image_Label,EncodedPixels\none_nucleus,1 1\none_nucleus,\n",
            "row 3: expected one row for nucleus in 'one', f",
        ),
    ],
)
def test_what_is_no_prediction_is_refused_in_one_line(tmp_path, text, message):
    info = write_truth(tmp_path / "records", dict.fromkeys(("one", "a/scan", "b/scan"), MASK))
    (tmp_path / "found.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        read_all(tmp_path, info)
    assert str(error.value).startswith(str(tmp_path / "found.csv"))
    assert "\n" not in str(error.value)


def test_records_that_were_resized_or_cut_are_refused(tmp_path):
    info = write_truth(tmp_path / "records", dict.fromkeys(("one", "two"), MASK), changes={"original_height": 768})
    write_csv(tmp_path, [("one", "1 1")])
    with pytest.raises(ValueError, match="'one' of 4x6 from 768x6; preprocess with --size null"):
        read_all(tmp_path, info)
    info = write_clouds(tmp_path, changes={"original_height": 1400, "original_width": 2100})
    write_csv(tmp_path, [("one.png_Fish", "1 1")], ("Image_Label", "EncodedPixels"))
    with pytest.raises(ValueError, match="expected records of whole images, found 'one', a tile; preprocess without"):
        read_all(tmp_path, info)


def test_a_form_that_does_not_fit_the_classes_is_refused(tmp_path):
    write_csv(tmp_path, [("one", "1 1")])
    with pytest.raises(ValueError, match="or records of one class, found rows of objects and the classes Fish, Flower"):
        read_all(tmp_path, write_clouds(tmp_path))
    write_csv(tmp_path, [("one.png_Fish", "1 1")], ("Image_Label", "EncodedPixels"))
    masks = dict.fromkeys(("one", "two"), MASK)
    info = write_truth(tmp_path / "records", masks, classes=["background", "Fish", "Sugar"])
    with pytest.raises(
        ValueError, match=r"classes overlap, .* found exclusive ones \(Fish, Sugar\); preprocess without"
    ):
        read_all(tmp_path, info)
