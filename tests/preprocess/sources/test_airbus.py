import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import airbus
from preprocess.sources.item import Item
from tests.preprocess.sources.raw_files import CONFIG, blank, items, only, plain_rle, write, zipped

TABLE = "train_ship_segmentations_v2.csv"
UNLABELED = PreprocessConfig(unlabeled=True)


def dataset(root, rows, images=("a.jpg",), header="ImageId,EncodedPixels"):
    return write(root, {TABLE: "\n".join([header, *rows, ""])} | {f"train_v2/{name}": blank() for name in images})


def test_every_ship_of_an_image_is_an_object_and_a_row_without_pixels_is_an_empty_image(tmp_path):
    files = dataset(tmp_path, ["b.jpg,", "a.jpg,1 2", "c.jpg,7 1", "a.jpg,9 3"], ("a.jpg", "b.jpg", "c.jpg"))
    assert items(airbus, files) == [
        Item("a", "train_v2/a.jpg", TABLE, 2, annotation='["1 2", "9 3"]'),
        Item("b", "train_v2/b.jpg", TABLE, 0, annotation="[]"),
        Item("c", "train_v2/c.jpg", TABLE, 1, annotation='["7 1"]'),
    ]


def test_a_row_that_is_there_twice_is_one_ship_and_ships_count_beside_an_empty_row(tmp_path):
    item = only(airbus, dataset(tmp_path, ["a.jpg,", "a.jpg,1 2", "a.jpg,1 2"]))
    assert (item.objects, item.annotation) == (1, '["1 2"]')


def test_ships_become_classes_and_instances_worked_out_by_hand(tmp_path):
    # 3 rows, 4 columns, numbered down the columns from 1; the second ship lies on the first.
    files = dataset(tmp_path, ["a.jpg,2 4 10 1", "a.jpg,5 1"])
    masks = airbus.read_masks(files, only(airbus, files), 3, 4, CONFIG)
    assert masks.instances.tolist() == [[0, 1, 0, 1], [1, 2, 0, 0], [1, 0, 0, 0]]
    assert masks.classes.tolist() == [[0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert masks.classes.dtype == np.uint8
    assert (masks.objects, masks.lost_pixels) == (2, 1)
    assert airbus.count_foreground(only(airbus, files), 3, 4, CONFIG) == 6


def test_an_image_without_ships_has_an_empty_mask(tmp_path):
    files = dataset(tmp_path, ["a.jpg,"])
    masks = airbus.read_masks(files, only(airbus, files), 3, 4, CONFIG)
    assert masks.classes.tolist() == [[0] * 4] * 3
    assert masks.objects == airbus.count_foreground(only(airbus, files), 3, 4, CONFIG) == 0


def test_an_id_without_image_and_an_image_without_row_are_told_and_the_rest_survives(tmp_path):
    files = dataset(tmp_path, ["a.jpg,1 2", "b.jpg,"], ("a.jpg", "c.jpg"))
    good, missing, unannotated = items(airbus, files)
    assert good.error is None
    assert missing == Item("b", None, TABLE, 0, error=f"{TABLE}: b.jpg: no such image", annotation="[]")
    assert unannotated == Item("c", "train_v2/c.jpg", None)


@pytest.mark.parametrize("code", ["1 2 3", "x 2", "0 2", "1 0", "12 2", "1.5 2"])
def test_bad_pixels_are_the_fault_of_that_image_alone(tmp_path, code):
    files = dataset(tmp_path, [f"a.jpg,{code}", "b.jpg,1 2"], ("a.jpg", "b.jpg"))
    bad, good = items(airbus, files)
    for look in (lambda item: airbus.read_masks(files, item, 3, 4, CONFIG), lambda item: foreground(item, 3, 4)):
        with pytest.raises(ValueError, match=f"{TABLE}: a.jpg: expected"):
            look(bad)
        look(good)


def foreground(item, height, width):
    return airbus.count_foreground(item, height, width, CONFIG)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "Image,EncodedPixels\na.jpg,1 2\n",
            r"expected the columns ImageId, EncodedPixels, found Image, EncodedPixels",
        ),
        ("ImageId,EncodedPixels\na.jpg,1,2\n", "expected 2 cells in every row like the header's, found more"),
        ("ImageId,EncodedPixels\nb.jpg,\na.jpg,1,2\n", "expected a CSV file in UTF-8: .*line 3, saw 3"),
        ("ImageId,EncodedPixels\n,1 2\n", "expected an ImageId in every row, found a row without"),
        ("", "expected a CSV file in UTF-8: No columns"),
        (b"ImageId,EncodedPixels\n\xff\xfe,1 2\n", "expected a CSV file in UTF-8: 'utf-8' codec"),
    ],
)
def test_what_is_wrong_with_the_table_is_said(tmp_path, table, message):
    with pytest.raises(ValueError, match=f"{TABLE}: {message}"):
        items(airbus, write(tmp_path, {TABLE: table, "train_v2/a.jpg": blank()}))


@pytest.mark.parametrize(
    "table", ["\ufeffImageId,EncodedPixels\na.jpg,1 2\n", '"EncodedPixels","ImageId"\r\n"1 2",a.jpg\r\n']
)
def test_byte_order_marks_quotes_and_other_orders_of_columns_are_read(tmp_path, table):
    item = only(airbus, write(tmp_path, {TABLE: table, "x/a.jpg": blank()}))
    assert (item.key, item.annotation) == ("a", '["1 2"]')


def test_text_that_pandas_takes_for_missing_stays_text(tmp_path):
    files = dataset(tmp_path, ["NA.jpg,nan", "a.jpg"], ("NA.jpg", "a.jpg"))
    first, second = items(airbus, files)
    assert (first.key, first.annotation, second.annotation) == ("NA", '["nan"]', "[]")


def test_there_must_be_one_table(tmp_path):
    with pytest.raises(ValueError, match=f"expected one {TABLE}, found none .*--unlabeled"):
        items(airbus, write(tmp_path, {"train_v2/a.jpg": blank()}))
    dataset(tmp_path, ["a.jpg,"])
    with pytest.raises(ValueError, match=f"expected one {TABLE}, found {TABLE} and copy/{TABLE}; keep one"):
        items(airbus, write(tmp_path, {f"copy/{TABLE}": "ImageId,EncodedPixels\n"}))


def test_two_images_of_one_name_are_refused_unless_one_is_a_test_image(tmp_path):
    dataset(tmp_path, ["a.jpg,1 2"])
    files = write(tmp_path, {"test_v2/a.jpg": blank(), "test_v2/b.jpg": blank()})
    assert [item.image for item in items(airbus, files)] == ["train_v2/a.jpg"]
    write(tmp_path, {"more/a.jpg": blank()})
    with pytest.raises(ValueError, match="two images of the name a.jpg: more/a.jpg and train_v2/a.jpg"):
        items(airbus, files)


def test_unlabelled_images_are_those_of_test_v2_or_all(tmp_path):
    files = write(tmp_path, {"train_v2/a.jpg": blank(), "b.jpeg": blank()})
    assert items(airbus, files, UNLABELED) == [Item("a", "train_v2/a.jpg", None), Item("b", "b.jpeg", None)]
    write(tmp_path, {"deep/test_v2/c.jpg": blank()})
    assert items(airbus, files, UNLABELED) == [Item("c", "deep/test_v2/c.jpg", None)]


def test_directory_and_zip_give_the_same_items(tmp_path):
    files = dataset(tmp_path / "raw", ["a.jpg,1 2", "b.jpg,", "c.jpg,3 1"], ("a.jpg", "b.jpg"))
    archive = zipped(tmp_path / "raw", tmp_path / "raw.zip")
    assert items(airbus, archive) == items(airbus, files)
    assert len(items(airbus, files)) == 3


def test_ships_may_be_called_otherwise_but_there_are_two_classes():
    assert airbus.class_names(None, CONFIG) == ["background", "ship"]
    assert airbus.class_names(None, PreprocessConfig(classes=["sea", "boat"])) == ["sea", "boat"]
    with pytest.raises(ValueError, match="classes: expected 2 names"):
        airbus.class_names(None, PreprocessConfig(classes=["ship"]))


def test_a_long_table_is_read_in_seconds(tmp_path):
    code = " ".join(f"{1 + 768 * column} 20" for column in range(25))
    rows = [f"{number:09x}.jpg,{code if number % 3 else ''}" for number in range(50_000)]
    files = dataset(tmp_path, rows, ())
    start = time.process_time()
    assert len(items(airbus, files)) == 50_000
    assert time.process_time() - start < 5  # 0.5 s where nothing else runs


def test_real_masks_equal_an_independent_decoding():
    folder = Path(os.environ.get("SEGMENTATION_DATA", "")) / "airbus"
    if not os.environ.get("SEGMENTATION_DATA") or not folder.is_dir():
        pytest.skip("the environment variable SEGMENTATION_DATA names no folder with airbus/")
    files = RawFiles(str(folder))
    found = items(airbus, files)
    assert (len(found), sum(item.objects for item in found)) == (105, 112)
    for item in found:
        masks = airbus.read_masks(files, item, 768, 768, CONFIG)
        expected = np.zeros((768, 768), np.uint8)
        for code in json.loads(item.annotation):
            expected |= plain_rle(code, 768, 768)
        np.testing.assert_array_equal(masks.classes, expected)
        assert masks.objects == masks.instances.max() == item.objects
