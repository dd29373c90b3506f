import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from imaging.codec import decode_image
from preprocess.config import CocoLayout, PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import coco
from preprocess.sources.item import Item
from preprocess.synthetic import SyntheticConfig, write_coco
from tests.preprocess.sources.raw_files import CONFIG, blank, items, only, write, zipped

BITS = PreprocessConfig(overlap="bits")
UNLABELED = PreprocessConfig(unlabeled=True)
CATEGORIES = [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 0, "name": "_background_"}]


def rle(mask):
    """COCO's uncompressed code, by a plain loop down the columns."""
    counts, last = [0], 0
    for value in np.asarray(mask).T.ravel().tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return {"size": list(np.shape(mask)), "counts": counts}


def area(*rows):
    return np.array([[letter == "#" for letter in row] for row in rows], np.uint8)


LARGE = area("####..", "####..", "####..", "......")
SMALL = area("......", "...###", "......", "......")
CROWD = area("......", ".....#", "..####", "######")


def annotation(number, mask, category=2, image=1, **fields):
    segmentation = rle(mask) if isinstance(mask, np.ndarray) else mask
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, **fields}


def dataset(root, annotations, images=None, categories=CATEGORIES, name="instances.json"):
    images = images or [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return write(root, {name: json.dumps(content), "a.png": blank()})


def test_categories_are_classes_by_id_and_the_background_is_none(tmp_path):
    files = dataset(tmp_path, [])
    assert coco.class_names(files, CONFIG) == ["background", "cat", "dog"]
    assert coco.class_names(files, BITS) == ["cat", "dog"]
    for named in (["dog"], ["background", "dog"]):
        assert coco.class_names(files, PreprocessConfig(classes=named)) == ["background", "dog"]
    with pytest.raises(ValueError, match="classes: expected some of cat, dog, found cow"):
        coco.class_names(files, PreprocessConfig(classes=["cow", "dog"]))


def test_the_smaller_object_is_on_top_and_crowds_lie_beneath(tmp_path):
    entries = [annotation(1, SMALL, 9), annotation(2, LARGE), annotation(3, CROWD, iscrowd=1)]
    files = dataset(tmp_path, entries)
    item = only(coco, files)
    masks = coco.read_masks(files, item, 4, 6, CONFIG)
    expected = np.where(CROWD, 255, 0)
    expected[LARGE > 0] = 1
    expected[SMALL > 0] = 2
    np.testing.assert_array_equal(masks.classes, expected)
    np.testing.assert_array_equal(masks.instances, np.where(SMALL, 1, 2 * LARGE))
    assert (item.objects, masks.objects, masks.lost_pixels, masks.classes.dtype) == (2, 2, 1, np.uint8)
    assert coco.count_foreground(item, 4, 6, CONFIG) == 12 + 3


def test_overlapping_objects_keep_all_their_bits(tmp_path):
    entries = [annotation(1, SMALL, 9), annotation(2, LARGE), annotation(3, CROWD, iscrowd=1)]
    files = dataset(tmp_path, entries)
    masks = coco.read_masks(files, only(coco, files, BITS), 4, 6, BITS)
    expected = LARGE + 2 * SMALL + (1 << 15) * ((CROWD > 0) & (LARGE + SMALL == 0))
    np.testing.assert_array_equal(masks.classes, expected)
    assert (masks.classes.dtype, masks.objects, masks.lost_pixels) == (np.uint16, 2, 1)


def test_objects_of_classes_that_are_not_chosen_are_background(tmp_path):
    config = PreprocessConfig(classes=["dog"])
    background = annotation(3, np.ones((4, 6), np.uint8), 0)
    files = dataset(tmp_path, [annotation(1, SMALL, 9), annotation(2, LARGE), background])
    item = only(coco, files, config)
    masks = coco.read_masks(files, item, 4, 6, config)
    np.testing.assert_array_equal(masks.classes, SMALL)
    assert (item.objects, masks.objects, masks.lost_pixels) == (1, 1, 0)


def test_an_object_without_pixels_takes_no_number(tmp_path):
    entries = [annotation(1, np.zeros_like(SMALL)), annotation(2, LARGE), annotation(3, SMALL, 9)]
    files = dataset(tmp_path, entries)
    masks = coco.read_masks(files, only(coco, files), 4, 6, CONFIG)
    np.testing.assert_array_equal(masks.classes, np.where(SMALL, 2, LARGE))
    assert masks.objects == masks.instances.max() == 2


def test_too_many_classes_are_refused(tmp_path):
    categories = [{"id": number, "name": f"c{number}"} for number in range(255)]
    files = dataset(tmp_path, [], categories=categories)
    with pytest.raises(ValueError, match="expected at most 254 classes, found 255; choose some with --classes"):
        coco.class_names(files, CONFIG)
    with pytest.raises(ValueError, match="at most 15 classes that overlap, found 255"):
        coco.class_names(files, BITS)
    assert coco.class_names(files, PreprocessConfig(classes=["c254"], overlap="bits")) == ["c254"]


def test_a_bad_segmentation_is_the_fault_of_its_image_alone(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    write(tmp_path, {"b.png": blank()})
    files = dataset(tmp_path, [annotation(71, [[1, 1, 3, 1, 3]]), annotation(72, SMALL, image=2)], images)
    bad, good = items(coco, files)
    message = "instances.json: annotation 71 of a.png: expected a polygon of at least 3 points, found 5 coordinates"
    for look in (
        lambda item: coco.read_masks(files, item, 4, 6, CONFIG),
        lambda item: coco.count_foreground(item, 4, 6, CONFIG),
    ):
        with pytest.raises(ValueError, match=message):
            look(bad)
        look(good)


def test_annotations_that_belong_nowhere_are_told(tmp_path):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    write(tmp_path, {"b.png": blank()})
    entries = [annotation(1, SMALL), annotation(2, SMALL, category=5, image=2), annotation(3, SMALL, image=99)]
    good, orphan, bad = items(coco, dataset(tmp_path, entries, images))
    assert (good.key, good.error, bad.key) == ("a", None, "b")
    assert bad.error == "instances.json: annotation 2: no category has the id 5"
    assert orphan == Item(
        "annotation 3", None, "instances.json", error="instances.json: annotation 3: no image has the id 99"
    )


@pytest.mark.parametrize(("height", "width", "side"), [(5, 6, "height"), (4, 7, "width")])
def test_an_image_of_another_size_than_the_file_says_is_refused(tmp_path, height, width, side):
    files = dataset(tmp_path, [], [{"id": 1, "file_name": "a.png", "height": height, "width": width}])
    expected = {"height": 4, "width": 6}[side]
    with pytest.raises(ValueError, match=f"a.png: expected {side} {expected} like the image's, found {expected + 1}"):
        coco.read_masks(files, only(coco, files), 4, 6, CONFIG)


def test_images_are_found_beside_the_json_at_the_root_or_by_name(tmp_path):
    names = ["x/a.png", "./y/b.png", "z\\c.png", "/home/someone/d.png", "e.png", "f.png"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    paths = ["deep/x/a.png", "y/b.png", "deep/z/c.png", "far/d.png", "one/e.png", "two/e.png", "deep/one/a.png"]
    files = write(tmp_path, dict.fromkeys(paths, blank()))
    (tmp_path / "a.png").unlink(missing_ok=True)
    content = {"images": images, "annotations": [], "categories": CATEGORIES}
    write(tmp_path, {"deep/instances.json": json.dumps(content)})
    found = {item.key: (item.image, item.error) for item in coco.find_items(files, CONFIG)}
    assert found == {
        "x/a": ("deep/x/a.png", None),
        "y/b": ("y/b.png", None),
        "z/c": ("deep/z/c.png", None),
        "/home/someone/d": ("far/d.png", None),
        "e": (None, "deep/instances.json: e.png: expected one image of that name, found one/e.png and two/e.png"),
        "f": (None, "deep/instances.json: f.png: no such image"),
    }


def test_the_annotation_file_is_the_only_one_or_the_one_that_is_named(tmp_path):
    files = dataset(tmp_path, [], name="annotations/train.json")
    write(tmp_path, {"annotations/captions.json": '{"images": [], "annotations": []}', "labelme.json": "{}"})
    assert only(coco, files).mask == "annotations/train.json"
    dataset(tmp_path, [annotation(1, SMALL)], name="annotations/val.json")
    with pytest.raises(
        ValueError, match="annotations/train.json, annotations/val.json; choose with --coco.annotations"
    ):
        items(coco, files)
    config = PreprocessConfig(coco=CocoLayout("annotations/val.json"))
    assert only(coco, files, config).objects == 1
    with pytest.raises(ValueError, match="coco.annotations: expected one of .*annotations/val.json, found val.json"):
        items(coco, files, PreprocessConfig(coco=CocoLayout("val.json")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json: expected JSON"),
        ("[" * 100_000, "a.json: expected JSON"),
        ("[]", "a.json: expected images, annotations, categories, found list"),
        ('{"images": [], "annotations": []}', r"found \['images', 'annotations'\]"),
        ('{"images": {}, "annotations": [], "categories": []}', "expected images to be a list, found dict"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\]: expected file_name \(str\)"),
        ('{"images": [], "annotations": [3], "categories": []}', r"annotations\[0\]: expected image_id .*found int"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], '
            '"annotations": [], "categories": []}',
            "expected images of different ids, found the id 1 2 times",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "expected categories of different names, found a, a",
        ),
    ],
)
def test_what_is_wrong_with_the_annotation_file_is_said(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        items(coco, write(tmp_path, {"a.json": content}))


def test_without_annotations_only_unlabelled_images_can_be_had(tmp_path):
    files = write(tmp_path, {"b/a.png": blank(), "c.jpg": blank()})
    with pytest.raises(ValueError, match="expected a JSON file with images, annotations, categories, found none"):
        items(coco, files)
    assert items(coco, files, UNLABELED) == [Item("b/a", "b/a.png", None), Item("c", "c.jpg", None)]
    assert coco.class_names(files, UNLABELED) == ["background", "object"]
    write(tmp_path, {"info.json": json.dumps({"images": [{"id": 1, "file_name": "c.jpg"}], "categories": CATEGORIES})})
    assert items(coco, files, UNLABELED) == [Item("c", "c.jpg", None)]
    assert coco.class_names(files, UNLABELED) == ["background", "cat", "dog"]


def test_directory_and_zip_give_the_same_items(tmp_path):
    write_coco(tmp_path / "raw", SyntheticConfig(images=5))
    archive = zipped(tmp_path / "raw", tmp_path / "raw.zip")
    files = RawFiles(str(tmp_path / "raw"))
    assert items(coco, archive) == items(coco, files)
    assert coco.class_names(archive, CONFIG) == ["background", "disc", "box", "triangle"]


def check_against_pycocotools(folder, table):
    """Compares the masks of all images with those that pycocotools makes of each annotation."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(folder / table))
    files = RawFiles(str(folder))
    numbers = {image["file_name"].rpartition("/")[2]: image["id"] for image in reference.dataset["images"]}
    bit_by_id = {number: bit for bit, number in enumerate(sorted(reference.cats))}
    if bit_by_id and reference.cats[min(bit_by_id)]["name"] == "_background_":
        bit_by_id = {number: bit - 1 for number, bit in bit_by_id.items()}
    names = coco.class_names(files, CONFIG)[1:16]
    config = PreprocessConfig(overlap="bits", classes=names)
    forms = set()
    for item in items(coco, files, config):
        height, width = decode_image(files.read(item.image)).shape[:2]
        expected, crowds, total = np.zeros((height, width), np.uint16), np.zeros((height, width), bool), 0
        for entry in reference.imgToAnns[numbers[item.image.rpartition("/")[2]]]:
            segmentation, bit = entry["segmentation"], bit_by_id[entry["category_id"]]
            if bit >= len(names):
                continue
            forms.add("polygon" if isinstance(segmentation, list) else type(segmentation["counts"]).__name__)
            mask = reference.annToMask(entry) > 0
            if entry["iscrowd"]:
                crowds |= mask
            else:
                expected[mask] |= 1 << bit
                total += int(mask.sum())
        expected[crowds & (expected == 0)] = 1 << 15
        masks = coco.read_masks(files, item, height, width, config)
        np.testing.assert_array_equal(masks.classes, expected)
        assert coco.count_foreground(item, height, width, config) == total
        assert masks.lost_pixels == total - np.count_nonzero(masks.instances)
    return forms


def test_masks_of_all_three_forms_equal_those_of_pycocotools(tmp_path):
    write_coco(tmp_path / "raw", SyntheticConfig(images=12))
    forms = check_against_pycocotools(tmp_path / "raw", "annotations/instances.json")
    assert forms == {"polygon", "list", "str"}


def test_real_masks_equal_those_of_pycocotools():
    folder = Path(os.environ.get("SEGMENTATION_DATA", "")) / "coco"
    if not os.environ.get("SEGMENTATION_DATA") or not folder.is_dir():
        pytest.skip("the environment variable SEGMENTATION_DATA names no folder with coco/")
    assert check_against_pycocotools(folder, "annotations.json") == {"polygon"}


def test_an_image_that_two_entries_find_is_bad_for_both(tmp_path):
    images = [{"id": number, "file_name": name} for number, name in ((1, "train/a.png"), (2, "/home/me/val/a.png"))]
    dataset(tmp_path, [annotation(1, SMALL), annotation(2, LARGE, image=2)], images)
    (tmp_path / "train").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "train" / "a.png")
    errors = [item.error for item in coco.find_items(RawFiles(str(tmp_path)), CONFIG)]
    assert errors == [
        "instances.json: train/a.png: train/a.png is the image of 2 entries; keep one",
        "instances.json: /home/me/val/a.png: train/a.png is the image of 2 entries; keep one",
    ]


def test_an_image_of_another_directory_is_not_taken_for_one_that_is_missing(tmp_path):
    images = [{"id": number, "file_name": f"{split}/a.png"} for number, split in ((1, "train"), (2, "val"))]
    dataset(tmp_path, [annotation(1, SMALL), annotation(2, LARGE, image=2)], images)
    (tmp_path / "train").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "train" / "a.png")
    found = [(item.image, item.error) for item in coco.find_items(RawFiles(str(tmp_path)), CONFIG)]
    assert found == [("train/a.png", None), (None, "instances.json: val/a.png: no such image")]
