"""Understanding Clouds: `train_images/*.jpg` and `train.csv`, one run-length code per image and class.

Layout: https://www.kaggle.com/competitions/understanding_cloud_organization/data. The table has the columns
Image_Label (`0011165.jpg_Fish`) and EncodedPixels, empty where the image has no such cloud. The classes are those of
the table, by name; they overlap. Unlabelled images lie in `test_images/`.
"""

import json
from collections.abc import Iterator

import numpy as np

from imaging.rle import count_rle_pixels, decode_rle
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.classes import chosen, with_background
from preprocess.sources.item import Item, Masks
from preprocess.sources.table import find_table, images_by_name, pair, read_columns, unlabeled_items

_TABLE = "train.csv"
_TEST_DIR = "test_images"
_CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]


def find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]:
    """Yields an item for every image, and one with an error for every annotation that has none.

    The annotation is a JSON object: run-length code by class, "" for none, in the order of the classes.

    Raises:
      ValueError: the table is not there or not as expected, or two images share a name.
    """
    paths = list(files.walk())
    images = images_by_name(paths, _TEST_DIR, config.unlabeled)
    if config.unlabeled:
        yield from unlabeled_items(images)
        return
    table = find_table(files, paths, _TABLE)
    codes, wrong = _codes_by_image(files, table)
    names = _chosen(codes, config)
    annotations = {}
    for image, by_class in codes.items():
        annotation = {name: by_class.get(name, "") for name in names}
        annotations[image] = (json.dumps(annotation), sum(map(bool, annotation.values())))
    yield from pair(images, annotations, table, wrong)


def class_names(files: RawFiles, config: PreprocessConfig) -> list[str]:
    """Returns the classes of the table that are kept, background first if they are to be exclusive.

    Raises:
      ValueError: --classes names another, or there are too many of them.
    """
    if config.unlabeled:
        return config.classes or with_background(_CLASSES, _overlapping(config))  # the table may not be there
    codes, _ = _codes_by_image(files, find_table(files, list(files.walk()), _TABLE))
    return with_background(_chosen(codes, config), _overlapping(config))


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the clouds of one image: a bit field, or one class a pixel, the later one winning."""
    overlapping = _overlapping(config)
    classes = np.zeros((height, width), np.uint16 if overlapping else np.uint8)
    objects = 0
    for index, (name, code) in enumerate(json.loads(item.annotation).items()):
        try:
            mask = decode_rle(code, height, width)
        except ValueError as error:
            raise _at(item, name, error) from error
        objects += bool(code)
        if overlapping:
            classes |= mask.astype(np.uint16) << index
        else:
            classes[mask > 0] = index + 1
    return Masks(classes, objects=objects)


def count_foreground(item: Item, height: int, width: int, config: PreprocessConfig) -> int:
    """Returns how many pixels the clouds of all classes have, taken together."""
    total = 0
    for name, code in json.loads(item.annotation).items():
        try:
            total += count_rle_pixels(code, height, width)
        except ValueError as error:
            raise _at(item, name, error) from error
    return total


def _codes_by_image(files: RawFiles, table: str) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Returns run-length codes by image and class; and by image what is wrong with rows that contradict each other."""
    codes: dict[str, dict[str, str]] = {}
    wrong = {}
    for label, code in zip(*read_columns(files, table, ["Image_Label", "EncodedPixels"]), strict=True):
        image, _, name = label.rpartition("_")
        if not image or not name:
            raise ValueError(f"{table}: expected an Image_Label such as 0011165.jpg_Fish, found {label!r}")
        by_class = codes.setdefault(image, {})
        if by_class.setdefault(name, code.strip()) != code.strip():
            wrong[image] = f"{table}: {label} is there twice, with different pixels"
    return codes, wrong


def _chosen(codes: dict[str, dict[str, str]], config: PreprocessConfig) -> list[str]:
    known = {name for by_class in codes.values() for name in by_class}
    return chosen(sorted(known), _overlapping(config), config)


def _overlapping(config: PreprocessConfig) -> bool:
    return config.overlap != "exclusive"


def _at(item: Item, name: str, error: ValueError) -> ValueError:
    return ValueError(f"{item.mask}: {item.image.rpartition('/')[2]}_{name}: {error}")
