import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.rle import encode_rle
from preprocess.config import PreprocessConfig
from preprocess.sources import clouds
from preprocess.sources.item import Item
from tests.preprocess.sources.raw_files import CONFIG, blank, items, only, plain_rle, write, zipped

EXCLUSIVE = PreprocessConfig(overlap="exclusive")
UNLABELED = PreprocessConfig(unlabeled=True)


def dataset(root, rows, images=("a.jpg",)):
    table = "\n".join(["Image_Label,EncodedPixels", *rows, ""])
    return write(root, {"train.csv": table} | {f"train_images/{name}": blank() for name in images})


def test_the_classes_are_those_of_the_table_by_name(tmp_path):
    files = dataset(tmp_path, ["a.jpg_Sugar,", "a.jpg_Fish,1 2", "b_1.jpg_Gravel,", "b_1.jpg_Flower,3 1"])
    assert clouds.class_names(files, CONFIG) == ["Fish", "Flower", "Gravel", "Sugar"]
    assert clouds.class_names(files, EXCLUSIVE) == ["background", "Fish", "Flower", "Gravel", "Sugar"]


def test_an_image_has_a_code_for_every_class_and_counts_those_that_are_not_empty(tmp_path):
    rows = ["b_1.jpg_Fish,1 2", "b_1.jpg_Sugar,", "a.jpg_Sugar,3 1", "a.jpg_Fish,1 1"]
    files = dataset(tmp_path, rows, ("a.jpg", "b_1.jpg"))
    assert items(clouds, files) == [
        Item("a", "train_images/a.jpg", "train.csv", 2, annotation='{"Fish": "1 1", "Sugar": "3 1"}'),
        Item("b_1", "train_images/b_1.jpg", "train.csv", 1, annotation='{"Fish": "1 2", "Sugar": ""}'),
    ]


def test_overlapping_clouds_become_bits_or_the_later_class_wins(tmp_path):
    # 2 rows, 3 columns: Fish covers the first column, Flower nothing, Gravel the upper row.
    files = dataset(tmp_path, ["a.jpg_Fish,1 2", "a.jpg_Flower,", "a.jpg_Gravel,1 1 3 1 5 1"])
    item = only(clouds, files)
    bits = clouds.read_masks(files, item, 2, 3, CONFIG)
    assert bits.classes.tolist() == [[0b101, 0b100, 0b100], [0b001, 0, 0]]
    assert (bits.classes.dtype, bits.instances, bits.objects) == (np.uint16, None, 2)
    exclusive = clouds.read_masks(files, item, 2, 3, EXCLUSIVE)
    assert exclusive.classes.tolist() == [[3, 3, 3], [1, 0, 0]]
    assert (exclusive.classes.dtype, exclusive.objects) == (np.uint8, 2)
    assert clouds.count_foreground(item, 2, 3, CONFIG) == 5


def test_classes_chooses_and_orders(tmp_path):
    files = dataset(tmp_path, ["a.jpg_Fish,1 2", "a.jpg_Flower,6 1", "a.jpg_Gravel,1 1 3 1 5 1"])
    chosen = PreprocessConfig(classes=["Gravel", "Fish"])
    assert clouds.class_names(files, chosen) == ["Gravel", "Fish"]
    item = only(clouds, files, chosen)
    assert (item.objects, clouds.count_foreground(item, 2, 3, chosen)) == (2, 5)
    assert clouds.read_masks(files, item, 2, 3, chosen).classes.tolist() == [[0b11, 0b01, 0b01], [0b10, 0, 0]]
    exclusive = PreprocessConfig(classes=["background", "Gravel", "Fish"], overlap="exclusive")
    assert clouds.class_names(files, exclusive) == ["background", "Gravel", "Fish"]
    item = only(clouds, files, exclusive)
    assert clouds.read_masks(files, item, 2, 3, exclusive).classes.tolist() == [[2, 1, 1], [2, 0, 0]]
    for look in (clouds.class_names, lambda *both: items(clouds, *both)):
        with pytest.raises(ValueError, match="classes: expected some of Fish, Flower, Gravel, found Fisch, Sugar"):
            look(files, PreprocessConfig(classes=["Fisch", "Fish", "Sugar"]))


def test_sixteen_classes_are_too_many_for_bits_only(tmp_path):
    files = dataset(tmp_path, [f"a.jpg_c{number:02d},{number + 1} 1" for number in range(16)])
    with pytest.raises(ValueError, match="at most 15 classes that overlap, found 16; choose .*--overlap exclusive"):
        clouds.class_names(files, CONFIG)
    few = PreprocessConfig(classes=[f"c{number:02d}" for number in range(1, 16)])
    assert clouds.read_masks(files, only(clouds, files, few), 4, 4, few).classes.max() == 1 << 14
    assert len(clouds.class_names(files, EXCLUSIVE)) == 17
    assert clouds.read_masks(files, only(clouds, files, EXCLUSIVE), 4, 4, EXCLUSIVE).classes.max() == 16


def test_faults_are_told_and_the_rest_survives(tmp_path):
    rows = ["a.jpg_Fish,1 2", "b.jpg_Fish,1 2", "c.jpg_Fish,1 2", "c.jpg_Fish,1 3", "d.jpg_Fish,7 x", "e.jpg_Fish,1 1"]
    files = dataset(tmp_path, [*rows, "e.jpg_Fish,1 1"], ("a.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"))
    good, missing, twice, unreadable, repeated, unannotated = items(clouds, files)
    assert missing.error == "train.csv: b.jpg: no such image"
    assert twice.error == "train.csv: c.jpg_Fish is there twice, with different pixels"
    assert unannotated == Item("f", "train_images/f.jpg", None)
    for look in (
        lambda: clouds.read_masks(files, unreadable, 2, 3, CONFIG),
        lambda: clouds.count_foreground(unreadable, 2, 3, CONFIG),
    ):
        with pytest.raises(ValueError, match=r"train.csv: d.jpg_Fish: expected run-length code .* 'x'"):
            look()
    assert clouds.read_masks(files, good, 2, 3, CONFIG).classes.sum() == 2
    assert clouds.read_masks(files, repeated, 2, 3, CONFIG).classes.sum() == 1


@pytest.mark.parametrize("label", ["a.jpg", "_Fish", "a.jpg_", ""])
def test_a_label_that_names_no_image_or_class_is_refused(tmp_path, label):
    with pytest.raises(ValueError, match=f"expected an Image_Label such as 0011165.jpg_Fish, found '{label}'"):
        items(clouds, dataset(tmp_path, [f"{label},1 2"]))


def test_unlabelled_clouds_need_no_table(tmp_path):
    files = write(tmp_path, {"train_images/a.jpg": blank(), "test_images/a.jpg": blank()})
    assert items(clouds, files, UNLABELED) == [Item("a", "test_images/a.jpg", None)]
    assert clouds.class_names(files, UNLABELED) == ["Fish", "Flower", "Gravel", "Sugar"]


def test_directory_and_zip_give_the_same_items(tmp_path):
    files = dataset(tmp_path / "raw", ["a.jpg_Fish,1 2", "b.jpg_Fish,"], ("a.jpg", "b.jpg"))
    archive = zipped(tmp_path / "raw", tmp_path / "raw.zip")
    assert items(clouds, archive) == items(clouds, files)
    assert clouds.class_names(archive, CONFIG) == ["Fish"]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_every_bit_is_the_plain_decoding_of_its_class(height, width, count, seed):
    drawn = np.random.default_rng(seed).random((count, height, width)) < 0.4
    codes = {f"c{number:02d}": encode_rle(mask) for number, mask in enumerate(drawn)}
    item = Item("a", "a.jpg", "train.csv", annotation=json.dumps(codes))
    bits = clouds.read_masks(None, item, height, width, CONFIG).classes
    for number, code in enumerate(codes.values()):
        np.testing.assert_array_equal(bits >> number & 1, plain_rle(code, height, width))
    assert clouds.count_foreground(item, height, width, CONFIG) == drawn.sum()
    last = np.zeros((height, width), int)
    for number in range(count):
        last[drawn[number]] = number + 1
    np.testing.assert_array_equal(clouds.read_masks(None, item, height, width, EXCLUSIVE).classes, last)
