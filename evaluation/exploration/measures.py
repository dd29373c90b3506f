"""Numbers about examples and their objects, from pixels and from the index."""

from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd

from evaluation.exploration.dataset import Dataset, ExamplePixels, read_examples
from records.info import RecordsInfo
from records.schema import class_areas, known_pixels

EXAMPLE_COLUMNS = ("key", "objects", "areas", "foreground", "brightness", "contrast", "clipped")
OBJECT_COLUMNS = ("key", "class", "area", "diameter")


def brightness_unit(info: RecordsInfo | None) -> str:
    """Returns what brightness is measured in: HU, or shares of the highest value."""
    return "HU" if info is not None and info.intensity["unit"] == "HU" else "0 = black, 1 = white"


def measure_examples(dataset: Dataset, keys: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (examples, objects), measured on the stored pixels of these records.

    Returns:
      examples: key; objects (annotated); areas (rows in the second table); foreground (share of the known pixels
        that belong to a class other than the background); brightness, contrast (mean and standard deviation of the
        grey values, in `brightness_unit`); clipped (share of pixels at the highest value). NaN: not known.
      objects: a row each, see `measure_objects`, with its example's key.
    """
    examples, objects = [], []
    for example in read_examples(dataset, keys):
        found = measure_objects(example, dataset.info)
        objects.append(found.assign(key=example.key))
        row = {"key": example.key, "objects": example.objects}
        if example.mask is not None:
            row |= {"areas": len(found), "foreground": _foreground(example.mask, dataset.info)}
        examples.append(row | _measure_image(example.image, dataset.info))
    table = pd.concat([pd.DataFrame(columns=OBJECT_COLUMNS), *(part for part in objects if len(part))])
    types = {"area": "int64", "diameter": "float64"}
    return pd.DataFrame(examples, columns=EXAMPLE_COLUMNS), table.astype(types).reset_index(drop=True)


def measure_objects(example: ExamplePixels, info: RecordsInfo) -> pd.DataFrame:
    """Returns class (name), area (pixels) and diameter (of the circle of equal area, pixels) of each object.

    Objects are those of the instance map; where there is none, or classes overlap, the connected areas of each class
    (pixels that touch at a corner are connected).
    """
    if example.mask is None:
        classes, areas = [], np.array([], np.int64)
    elif example.instances is not None and not info.overlapping:
        numbers, first, areas = np.unique(example.instances, return_index=True, return_counts=True)
        first, areas = first[numbers > 0], areas[numbers > 0]
        values = example.mask.ravel()[first]
        classes = [info.classes[value] if value < len(info.classes) else "ignored" for value in values]
    else:
        classes, areas = _connected_areas(example.mask, info)
    return pd.DataFrame({"class": classes, "area": areas, "diameter": np.sqrt(4 / np.pi * areas)})


def example_facts(dataset: Dataset, measured: pd.DataFrame) -> pd.DataFrame:
    """Returns split, cluster, group, objects, areas, foreground, brightness, contrast and clipped of examples, by key.

    There is a row for every example, in the order of the plan. What index and plan do not know comes from `measured`
    (the first table of `measure_examples`), as far as it reaches; the rest is NaN.
    """
    examples = dataset.examples
    place = ["image", "slice_index"]  # a tile shares the facts of its image
    found = dataset.index.drop_duplicates(place).rename(columns={"mean": "brightness"})
    names = ["brightness", "contrast", "clipped"]
    facts = examples.merge(found[place + names], on=place, how="left", validate="many_to_one").set_index("key")
    whole = facts["height"] * facts["width"]
    facts["foreground"] = facts["foreground"] / (facts["crop_height"] * facts["crop_width"]).fillna(whole)
    columns = ["objects", "areas", "foreground", *names]
    facts = facts.assign(areas=np.nan).astype(dict.fromkeys(columns, "float64"))
    facts[columns] = facts[columns].fillna(measured.set_index("key")[columns].astype("float64"))
    return facts[["split", "cluster", "group", *columns]]


def _connected_areas(mask: np.ndarray, info: RecordsInfo) -> tuple[list[str], np.ndarray]:
    classes: list[str] = []
    areas = [np.array([], np.int64)]
    numbers = info.scored_classes
    for number, area in zip(numbers, class_areas(mask, numbers, info.overlapping), strict=True):
        _, _, statistics, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=8)
        areas.append(statistics[1:, cv2.CC_STAT_AREA].astype(np.int64))
        classes += [info.classes[number]] * len(areas[-1])
    return classes, np.concatenate(areas)


def _foreground(mask: np.ndarray, info: RecordsInfo) -> float:
    known = known_pixels(mask, info.overlapping)
    annotated = class_areas(mask, info.scored_classes, info.overlapping).any(0)
    return np.count_nonzero(annotated) / max(1, np.count_nonzero(known))


def _measure_image(image: np.ndarray, info: RecordsInfo) -> dict[str, float]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]
    highest = np.iinfo(image.dtype).max
    slope, offset = 1 / highest, 0.0
    if info.intensity["unit"] == "HU":
        slope, offset = info.intensity["slope"], info.intensity["offset"]
    return {
        "brightness": float(slope * grey.mean(dtype=np.float64) + offset),
        "contrast": float(slope * grey.std(dtype=np.float64)),
        "clipped": float(np.mean(grey == highest)),
    }
