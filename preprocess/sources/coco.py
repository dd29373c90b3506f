"""COCO: images, found by their `file_name`, and one JSON file with `images`, `annotations` and `categories`.

Format: https://cocodataset.org/#format-data. Where classes are exclusive, the smaller object is on top, as in the
instance map; crowds are regions where nothing is known, beneath all objects.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from imaging.codec import SUFFIXES
from imaging.objects import merge_objects
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.annotations import find_annotations, image_finder, read_annotations
from preprocess.sources.classes import chosen, with_background
from preprocess.sources.item import Item, Masks
from preprocess.sources.segmentation import count_pixels, decode_segmentation
from preprocess.sources.table import stem
from records.schema import IGNORE, IGNORE_BIT

_BACKGROUNDS = ("_background_", "background", "__background__")  # labelme numbers it as a category


def find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]:
    """Yields an item for every image of the JSON file, and one with an error for every annotation of no image.

    The annotation is a JSON object: the image's "size" [height, width], and "objects", each with "id", "category"
    (index among the chosen classes), "crowd" and "segmentation".

    Raises:
      ValueError: the JSON file is not there, is not as expected, or it cannot be told which one to take.
    """
    paths = list(files.walk())
    table = find_annotations(files, paths, config)
    if table is None:
        for path in paths:
            if path.lower().endswith(SUFFIXES):
                yield Item(stem(path), path, None)
        return
    content = read_annotations(files, table, config)
    find_image = image_finder(paths, table)
    objects, wrong, orphans = _objects_by_image(content, table, config)
    names = [image["file_name"].replace("\\", "/").removeprefix("./") for image in content["images"]]
    found_images = [find_image(name) for name in names]
    entries = Counter(path for path, _ in found_images)
    for image, name, (path, missing) in zip(content["images"], names, found_images, strict=True):
        shared = f"{path} is the image of {entries[path]} entries; keep one" if path and entries[path] > 1 else None
        error = missing or shared
        item = Item(stem(name), path, None, error=error and f"{table}: {name}: {error}")
        if not config.unlabeled:
            found = objects[image["id"]]
            annotation = {"size": [image.get("height"), image.get("width")], "objects": found}
            item = item._replace(
                mask=table,
                objects=sum(not entry["crowd"] for entry in found),
                error=item.error or wrong.get(image["id"]),
                annotation=json.dumps(annotation),
            )
        yield item
    yield from orphans


def class_names(files: RawFiles, config: PreprocessConfig) -> list[str]:
    """Returns the categories that are kept, background first unless they overlap.

    Raises:
      ValueError: --classes names another, or there are too many of them.
    """
    overlapping = config.overlap == "bits"
    table = find_annotations(files, list(files.walk()), config)
    categories = read_annotations(files, table, config).get("categories") if table else None
    if categories is None:  # of unlabelled images nothing is known
        return config.classes or with_background(["object"], overlapping)
    return with_background(list(_indices(categories, table, config)), overlapping)


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the objects of one image: classes (exclusive, or a bit field) and an instance map."""
    overlapping = config.overlap == "bits"
    classes = np.zeros((height, width), np.uint16)
    crowds = np.zeros((height, width), bool)
    values = [0]  # class of each instance

    def object_masks() -> Iterator[np.ndarray]:
        for entry, mask in _decoded(item, height, width, decode_segmentation):
            if entry["crowd"]:
                crowds[mask > 0] = True
            elif mask.any():
                values.append(entry["category"] + 1)
                if overlapping:
                    classes[mask > 0] |= 1 << entry["category"]
                yield mask

    merged = merge_objects(object_masks(), height, width)
    if not overlapping:
        classes = np.array(values, np.uint8)[merged.instances]
    classes[crowds & (merged.instances == 0)] = IGNORE_BIT if overlapping else IGNORE
    return Masks(classes, merged.instances, merged.count, merged.lost_pixels)


def count_foreground(item: Item, height: int, width: int, config: PreprocessConfig) -> int:
    """Returns how many pixels the objects have, taken together; crowds are none."""
    return sum(area for entry, area in _decoded(item, height, width, count_pixels) if not entry["crowd"])


def _decoded(
    item: Item, height: int, width: int, decode: Callable[[Any, int, int], Any]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields each object of an annotation with what `decode` makes of its segmentation."""
    annotation = json.loads(item.annotation)
    for found, expected, side in zip(annotation["size"], (height, width), ("height", "width"), strict=True):
        if found not in (None, expected):
            raise ValueError(f"{item.mask}: {item.image}: expected {side} {expected} like the image's, found {found!r}")
    for entry in annotation["objects"]:
        try:
            yield entry, decode(entry["segmentation"], height, width)
        except ValueError as error:
            raise ValueError(f"{item.mask}: annotation {entry['id']} of {item.image}: {error}") from error


def _objects_by_image(
    content: dict[str, Any], table: str, config: PreprocessConfig
) -> tuple[dict[Any, list[dict]], dict[Any, str], list[Item]]:
    """Returns (objects by image id, what is wrong with an image by its id, items of annotations without an image)."""
    objects: dict[Any, list[dict]] = {image["id"]: [] for image in content["images"]}
    wrong: dict[Any, str] = {}
    orphans: list[Item] = []
    if config.unlabeled:
        return objects, wrong, orphans
    known = {category["id"] for category in content["categories"]}
    indices = _indices(content["categories"], table, config)
    index_by_id = {category["id"]: indices.get(category["name"]) for category in content["categories"]}
    for entry in content["annotations"]:
        name, image_id, category_id = entry.get("id"), entry["image_id"], entry["category_id"]
        if image_id not in objects:
            error = f"{table}: annotation {name}: no image has the id {image_id}"
            orphans.append(Item(f"annotation {name}", None, table, error=error))
        elif entry.get("iscrowd") not in (None, 0, 1):  # bool("0") is true
            wrong[image_id] = f"{table}: annotation {name}: expected iscrowd 0 or 1, found {entry['iscrowd']!r}"
        elif category_id not in known:
            wrong[image_id] = f"{table}: annotation {name}: no category has the id {category_id}"
        elif (index := index_by_id[category_id]) is not None:
            shape = {"category": index, "crowd": bool(entry.get("iscrowd")), "segmentation": entry.get("segmentation")}
            objects[image_id].append({"id": name, **shape})
    return objects, wrong, orphans


def _indices(categories: list[dict], table: str, config: PreprocessConfig) -> dict[str, int]:
    """Returns the index of each class that is kept."""
    ordered = sorted(categories, key=lambda category: category["id"])
    names = [category["name"] for category in ordered if category["name"] not in _BACKGROUNDS]
    if len(set(names)) < len(names):
        raise ValueError(f"{table}: expected categories of different names, found {', '.join(names)}")
    return {name: index for index, name in enumerate(chosen(names, config.overlap == "bits", config))}
