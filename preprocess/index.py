"""Index: one row of facts per example. Looks at every image once.

Masks are hashed, not decoded; only where a choice asks which examples are empty are they read here too.

The table's columns: key, group, image (path), mask (path), objects, foreground (annotated pixels), tile_foreground
(of each tile), slice_index, geometry (JSON, of the volume), split (of the raw directories), image_bytes, sha256 (of
the image file), mask_hash (of the mask files or the annotation), height, width, channels, depth, mean, contrast,
clipped (see `imaging.codec.ImageFacts`), outlier (blank, uniform, clipped), perceptual_hash, error (why it is of no
use).
"""

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
import pandas as pd

from imaging.tiling import cut, tile_windows
from preprocess.config import PreprocessConfig
from preprocess.pipeline import Report, run_tasks
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES, Source
from preprocess.sources.item import Item, annotation_hash
from preprocess.storage import delete_files, list_files, read_file, write_file
from records.files import join
from records.schema import ignore_value, known_pixels

INDEX_FILE = "index.parquet"

UNIFORM_CONTRAST, CLIPPED_SHARE = 0.008, 0.5
"""An image is flagged uniform below a contrast of 2 of 255 grey values, clipped when more than half of its
pixels are at the highest value."""

_COLUMNS = {
    "key": "str",
    "group": "str",
    "image": "str",
    "mask": "str",
    "objects": "Int64",
    "foreground": "Int64",
    "tile_foreground": "object",
    "slice_index": "Int64",
    "geometry": "str",
    "split": "str",
    "image_bytes": "Int64",
    "sha256": "str",
    "mask_hash": "str",
    "height": "Int64",
    "width": "Int64",
    "channels": "Int64",
    "depth": "Int64",
    "mean": "Float64",
    "contrast": "Float64",
    "clipped": "Float64",
    "outlier": "str",
    "perceptual_hash": "str",
    "error": "str",
}

_ITEMS_PER_TASK, _MOST_TASKS = 64, 2000


@dataclass(frozen=True)
class IndexTask:
    """Some items to look at: how many, the file that lists them, and the file for their rows."""

    items: int
    todo_file: str
    done_file: str


class IndexItemsFn(beam.DoFn):
    """Looks at the items of a task and leaves their rows as JSON."""

    def __init__(self, layout: str, files: RawFiles, folder: str, config: PreprocessConfig):
        """Binds what every task needs."""
        self._layout, self._files, self._folder, self._config = layout, files, folder, config

    def setup(self):
        """Leaves the cores to the other processes."""
        cv2.setNumThreads(1)

    def process(self, task: IndexTask):
        """Writes one file; yields nothing."""
        items = [Item(*values) for values in json.loads(read_file(join(self._folder, task.todo_file)))]
        rows = [row for item in items for row in index_rows(self._layout, self._files, item, self._config)]
        write_file(join(self._folder, task.done_file), json.dumps(rows).encode())


def index_rows(layout: str, files: RawFiles, item: Item, config: PreprocessConfig) -> list[dict[str, Any]]:
    """Returns the facts of one item's examples; whatever is wrong with it stands under "error" of its one row."""
    base = {name: value for name, value in item._asdict().items() if name in _COLUMNS}
    if item.error or item.image is None:
        return [base]
    if item.mask is None and not config.unlabeled:
        return [base | {"error": f"{item.image}: no mask found (--unlabeled makes records without masks)"}]
    source = SOURCES[layout]
    try:
        rows = [base | facts for facts in source.examine(files, item, config)]
        if not config.unlabeled:
            mask_hash = _mask_hash(files, item)
            for row in rows:
                row["mask_hash"] = mask_hash
                row.update(_count_foreground(source, files, item, row, config))
    except ValueError as error:
        return [base | {"error": str(error)}]
    for row in rows:
        row["outlier"] = _outlier(row)
    return rows


def make_index(
    layout: str, files: RawFiles, items: list[Item], folder: str, config: PreprocessConfig, report: Report
) -> pd.DataFrame:
    """Returns the index of a raw dataset's items, ordered by key."""
    # Rows of an earlier, killed run may speak of files that have changed since.
    delete_files(folder, [name for name in list_files(folder) if re.fullmatch(r"index-\d{9}\.(todo|done)\.json", name)])
    # A volume is as much work as a hundred images.
    size = max(1 if layout == "ct" else _ITEMS_PER_TASK, len(items) // _MOST_TASKS)
    tasks = []
    for start in range(0, len(items), size):
        part = items[start : start + size]
        tasks.append(IndexTask(len(part), f"index-{start:09d}.todo.json", f"index-{start:09d}.done.json"))
        write_file(join(folder, tasks[-1].todo_file), json.dumps(part).encode())
    fn = IndexItemsFn(layout, files, folder, config)
    run_tasks(tasks, fn, "IndexItems", folder, config.workers, config.beam, report)
    rows = (json.loads(read_file(join(folder, task.done_file))) for task in tasks)
    pattern = re.compile(config.group_by) if config.group_by else None
    index = pd.concat([table_of_rows(part, pattern) for part in rows])
    if pattern and not index["key"].str.contains(pattern.pattern).any():
        raise ValueError(
            f"group_by: expected {config.group_by!r} to match keys, found no match in {len(index)} of them, "
            f"such as {index['key'].iloc[0]!r}"
        )
    delete_files(folder, [name for task in tasks for name in (task.todo_file, task.done_file)])
    return index.sort_values("key", ignore_index=True)


def find_items(layout: str, files: RawFiles, config: PreprocessConfig) -> list[Item]:
    """Returns what the layout finds.

    Raises:
      ValueError: nothing was found, or two items have the same key.
    """
    try:
        items = list(SOURCES[layout].find_items(files, config))
    except ValueError as error:
        raise ValueError(f"{error}{_zips_hint(files)}") from error
    if all(item.error or item.image is None for item in items) and (hint := _zips_hint(files)):
        raise ValueError(f"{files.root}: found no image of the layout {layout!r}{hint}")
    if not items:
        expected = inspect.getmodule(SOURCES[layout].find_items).__doc__.strip().splitlines()[0]
        raise ValueError(f"{files.root}: found no images in the layout {layout!r} ({expected})")
    key, count = Counter(item.key for item in items).most_common(1)[0]
    if count > 1:
        paths = " and ".join(str(item.image or item.mask) for item in items if item.key == key)
        raise ValueError(f"{files.root}: the key {key!r} is there {count} times ({paths}); rename or remove one")
    return items


def _zips_hint(files: RawFiles) -> str:
    """Returns what to do where the raw data hold zips, as Kaggle delivers some; "" where there are none."""
    zips = [path for path in files.walk() if path.lower().endswith(".zip")]
    return f"; zips lie in it ({', '.join(zips[:3])}): unpack it and them into one directory" if zips else ""


def table_of_rows(rows: list[dict[str, Any]], pattern: re.Pattern | None) -> pd.DataFrame:
    """Returns the rows of `index_rows` as a table; the pattern is that of `PreprocessConfig.group_by`."""
    for row in rows:
        row["group"] = _group(row.get("group") or row["key"], row["key"], pattern)
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _group(natural: str, key: str, pattern: re.Pattern | None) -> str:
    match = pattern and pattern.search(key)
    if not match:
        return natural
    # A group that took no part in the match, or matched nothing, says nothing about the key.
    return (match.group(1) if pattern.groups else match.group(0)) or natural


def _mask_hash(files: RawFiles, item: Item) -> str:
    if item.annotation is not None:
        return annotation_hash(item.annotation)
    return files.content_hash(item.mask)


def _count_foreground(
    source: Source, files: RawFiles, item: Item, row: dict[str, Any], config: PreprocessConfig
) -> dict[str, Any]:
    """Returns the columns foreground and tile_foreground, as far as they are known or asked for."""
    if not (config.tile and config.needs_foreground):
        if row.get("foreground") is not None:
            return {}
        if source.count_foreground:
            return {"foreground": source.count_foreground(item, row["height"], row["width"], config)}
        if item.objects is not None or not config.needs_foreground:
            return {}
    item = item._replace(slice_index=row.get("slice_index"))
    mask = source.read_masks(files, item, row["height"], row["width"], config).classes
    annotated = count_annotated(mask, source.is_overlapping(config))
    if not config.tile:
        return {"foreground": annotated}
    windows = tile_windows(row["height"], row["width"], config.size, config.tile_overlap)
    overlapping = source.is_overlapping(config)
    tiles = [count_annotated(cut(mask, window, ignore_value(overlapping)), overlapping) for window in windows]
    return {"foreground": annotated, "tile_foreground": tiles}


def count_annotated(mask: np.ndarray, overlapping: bool) -> int:
    """Returns how many pixels of a mask belong to a class other than the background; ignored pixels do not."""
    return int(np.count_nonzero((mask != 0) & known_pixels(mask, overlapping)))


def _outlier(row: dict[str, Any]) -> str | None:
    if row.pop("blank", False):
        return "blank"
    if row.get("contrast") is not None and row["contrast"] < UNIFORM_CONTRAST:
        return "uniform"
    return "clipped" if (row.get("clipped") or 0) > CLIPPED_SHARE else None


def planned_items(plan_rows: pd.DataFrame, annotations: dict[str, str]) -> Iterator[tuple[Item, dict[str, Any]]]:
    """Yields (item, row) of each row of a plan.

    Args:
      plan_rows: of the plan.
      annotations: path of the image -> annotation, where a table annotates the images.
    """
    rows = plan_rows.astype(object).where(plan_rows.notna(), None)
    for row in rows.to_dict("records"):
        crop = tuple(row[f"crop_{side}"] for side in ("y", "x", "height", "width"))
        yield (
            Item(
                key=row["key"],
                image=row["image"],
                mask=row["mask"],
                objects=row["objects"],
                annotation=annotations.get(row["image"]),
                slice_index=row["slice_index"],
                crop=None if crop[0] is None else crop,
            ),
            row,
        )
