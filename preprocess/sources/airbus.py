"""Airbus Ship Detection: `train_v2/*.jpg` and `train_ship_segmentations_v2.csv`, one run-length code per ship.

Layout: https://www.kaggle.com/competitions/airbus-ship-detection/data. The table has the columns ImageId and
EncodedPixels, one row per ship, and one row without pixels for an image without ships. Unlabelled images lie in
`test_v2/`. The directories' own names don't matter otherwise: images are found by their names.
"""

import json
from collections.abc import Iterator

import numpy as np

from imaging.objects import merge_objects
from imaging.rle import count_rle_pixels, decode_rle
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.classes import one_kind
from preprocess.sources.item import Item, Masks
from preprocess.sources.table import find_table, images_by_name, pair, read_columns, unlabeled_items

_TABLE = "train_ship_segmentations_v2.csv"
_TEST_DIR = "test_v2"


def find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]:
    """Yields an item for every image, and one with an error for every ImageId that has none.

    The annotation is a JSON list of the ships' run-length codes.

    Raises:
      ValueError: the table is not there or not as expected, or two images share a name.
    """
    paths = list(files.walk())
    images = images_by_name(paths, _TEST_DIR, config.unlabeled)
    if config.unlabeled:
        yield from unlabeled_items(images)
        return
    table = find_table(files, paths, _TABLE)
    ships = _ships_by_image(files, table)
    annotations = {name: (json.dumps(codes), len(codes)) for name, codes in ships.items()}
    yield from pair(images, annotations, table, wrong={})


def class_names(files: RawFiles, config: PreprocessConfig) -> list[str]:
    """Returns background and ship, or the two names of --classes."""
    return one_kind(["background", "ship"], config)


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the ships of one image merged into one class and one instance map."""
    try:
        merged = merge_objects((decode_rle(code, height, width) for code in json.loads(item.annotation)), height, width)
    except ValueError as error:
        raise _at(item, error) from error
    return Masks((merged.instances > 0).astype(np.uint8), merged.instances, merged.count, merged.lost_pixels)


def count_foreground(item: Item, height: int, width: int, config: PreprocessConfig) -> int:
    """Returns how many pixels the ships have, taken together."""
    try:
        return sum(count_rle_pixels(code, height, width) for code in json.loads(item.annotation))
    except ValueError as error:
        raise _at(item, error) from error


def _ships_by_image(files: RawFiles, table: str) -> dict[str, list[str]]:
    """Returns the run-length codes of each image; a row that is there twice is one ship."""
    ships: dict[str, dict[str, None]] = {}
    for name, code in zip(*read_columns(files, table, ["ImageId", "EncodedPixels"]), strict=True):
        codes = ships.setdefault(name, {})
        if code.strip():
            codes[code] = None
    if "" in ships:
        raise ValueError(f"{table}: expected an ImageId in every row, found a row without")
    return {name: list(codes) for name, codes in ships.items()}


def _at(item: Item, error: ValueError) -> ValueError:
    return ValueError(f"{item.mask}: {item.image.rpartition('/')[2]}: {error}")
