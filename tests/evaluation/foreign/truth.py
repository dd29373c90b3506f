"""Small labelled records made by hand, with the tables beside them that name their records."""

from pathlib import Path

import numpy as np
import pandas as pd

from imaging.codec import encode_png
from records.info import RecordsInfo
from records.shards import Shard
from tests.records.conftest import made_record, write_made_records
from tests.records.damaging import write_offsets


def write_truth(
    folder: Path,
    masks: dict[str, np.ndarray],
    images: dict[str, str] | None = None,
    elsewhere: dict[str, str] | None = None,
    instances: dict[str, np.ndarray] | None = None,
    changes: dict | None = None,
    changes_by_key: dict[str, dict] | None = None,
    **info,
) -> RecordsInfo:
    """Writes a test split of two shards.

    Args:
      folder: of the records.
      masks: by key.
      images: path of the raw image by key, images/KEY.png where it says none.
      elsewhere: key and path of the raw images that are in the plan, but not in the split.
      instances: instance maps by key, where there are any.
      changes: of every record; else it is the whole raw image.
      changes_by_key: of single records.
      info: changes of info.json.
    """
    paths = {key: f"images/{key}.png" for key in masks} | (images or {})
    records = []
    for key, mask in masks.items():
        height, width = mask.shape
        sizes = {"height": height, "width": width, "original_height": height, "original_width": width}
        found = (instances or {}).get(key)
        record = {
            "image": encode_png(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)),
            "mask": encode_png(mask),
            "instances": None if found is None else encode_png(found.astype(np.uint16)),
            "objects": None,
            "filename": paths[key],
            "crop": (0, 0, height, width),
        }
        own = (changes_by_key or {}).get(key, {})
        records.append(made_record(key, **{**record, **sizes, **(changes or {}), **own}))
    half = len(records) // 2
    shards = [records[:half], records[half:]]
    settings = {"height": None, "width": None, "config": {"size": None}, **info}
    written = write_made_records(folder, {"test": shards}, **settings)
    write_offsets(folder, {Shard("made", "test", index, 2): shard for index, shard in enumerate(shards)})
    rows = [(key, "in", "test", path) for key, path in paths.items()]
    rows += [(key, "in", "train", path) for key, path in (elsewhere or {}).items()]
    plan = pd.DataFrame(rows, columns=["key", "status", "split", "image"]).sort_values("key")
    plan.to_parquet(folder / "plan.parquet", index=False)
    return written


def write_masks(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """Writes masks by the file's path without .png; returns the folder."""
    for name, mask in masks.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(mask))
    return folder
