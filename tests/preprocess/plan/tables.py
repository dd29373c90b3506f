"""Index tables for the tests of the plan."""

import pandas as pd


def make_index(keys, **columns):
    table = pd.DataFrame({"key": list(keys)})
    defaults = {
        "group": table["key"],
        "image": "images/" + table["key"],
        "mask": "masks/" + table["key"],
        "objects": 1,
        "split": None,
        "image_bytes": 1000,
        "sha256": table["key"].map(lambda key: f"sha-{key}"),
        "mask_hash": "",
        "height": 64,
        "width": 64,
        "channels": 3,
        "depth": 8,
        "foreground": 1,
        "slice_index": None,
        "outlier": None,
        "perceptual_hash": None,
        "error": None,
    }
    for name, value in (defaults | columns).items():
        table[name] = value
    numbers = ("objects", "foreground", "slice_index", "image_bytes", "height", "width", "channels", "depth")
    texts = ("group", "image", "mask", "split", "sha256", "mask_hash", "outlier", "perceptual_hash", "error")
    return table.astype(dict.fromkeys(numbers, "Int64") | dict.fromkeys(texts, "str"))


def keys(count):
    return [f"k{number:04d}" for number in range(count)]


def splits_of(plan):
    return dict(zip(plan["key"], plan["split"], strict=True))
