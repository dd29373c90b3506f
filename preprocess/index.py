"""Index: one row of facts per raw item. Looks at every image once; masks are hashed, not decoded.

The table's columns: key, group, image (path), mask (path), objects, split (of the raw directories), image_bytes,
sha256 (of the image file), mask_hash (of the mask files), height, width, channels, depth, blank, perceptual_hash,
error (why the item is of no use).
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import cv2
import pandas as pd

from imaging.codec import examine_image
from preprocess.config import PreprocessConfig
from preprocess.pipeline import Report, run_tasks
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES
from preprocess.sources.item import Item
from preprocess.storage import delete_files, list_files, read_file, write_file
from records.files import join

INDEX_FILE = "index.parquet"

_COLUMNS = {
    "key": "str",
    "group": "str",
    "image": "str",
    "mask": "str",
    "objects": "Int64",
    "split": "str",
    "image_bytes": "Int64",
    "sha256": "str",
    "mask_hash": "str",
    "height": "Int64",
    "width": "Int64",
    "channels": "Int64",
    "depth": "Int64",
    "blank": "boolean",
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

    def __init__(self, files: RawFiles, folder: str, config: PreprocessConfig):
        """Binds what every task needs."""
        self._files, self._folder, self._config = files, folder, config

    def setup(self):
        """Leaves the cores to the other processes."""
        cv2.setNumThreads(1)

    def process(self, task: IndexTask):
        """Writes one file; yields nothing."""
        items = [Item(*values) for values in json.loads(read_file(join(self._folder, task.todo_file)))]
        rows = [index_row(self._files, item, self._config) for item in items]
        write_file(join(self._folder, task.done_file), json.dumps(rows).encode())


def index_row(files: RawFiles, item: Item, config: PreprocessConfig) -> dict[str, Any]:
    """Returns the facts of one item; whatever is wrong with it stands under "error"."""
    row = item._asdict() | {"group": _group(item.key, config.group_by)}
    if item.error or item.image is None:
        return row
    try:
        data = files.read(item.image)
        row |= {"image_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        row |= examine_image(data)._asdict()
    except ValueError as error:
        row["error"] = f"{item.image}: {error}"
        return row
    if item.mask is None and not config.unlabeled:
        row["error"] = f"{item.image}: no mask found (--unlabeled makes records without masks)"
    elif not config.unlabeled:
        row["mask_hash"] = files.content_hash(item.mask)  # no mask is decoded here
    return row


def make_index(
    files: RawFiles, items: list[Item], folder: str, config: PreprocessConfig, report: Report
) -> pd.DataFrame:
    """Returns the index of a raw dataset's items, ordered by key."""
    # Rows of an earlier, killed run may speak of files that have changed since.
    delete_files(folder, [name for name in list_files(folder) if re.fullmatch(r"index-\d{9}\.(todo|done)\.json", name)])
    size = max(_ITEMS_PER_TASK, len(items) // _MOST_TASKS)
    tasks = []
    for start in range(0, len(items), size):
        part = items[start : start + size]
        tasks.append(IndexTask(len(part), f"index-{start:09d}.todo.json", f"index-{start:09d}.done.json"))
        write_file(join(folder, tasks[-1].todo_file), json.dumps(part).encode())
    fn = IndexItemsFn(files, folder, config)
    run_tasks(tasks, fn, "IndexItems", folder, config.workers, config.beam, report)
    rows = (json.loads(read_file(join(folder, task.done_file))) for task in tasks)
    index = pd.concat([pd.DataFrame(part, columns=list(_COLUMNS)).astype(_COLUMNS) for part in rows])
    delete_files(folder, [name for task in tasks for name in (task.todo_file, task.done_file)])
    return index.sort_values("key", ignore_index=True)


def find_items(layout: str, files: RawFiles, config: PreprocessConfig) -> list[Item]:
    """Returns what the layout finds.

    Raises:
      ValueError: nothing was found, or two items have the same key.
    """
    source = SOURCES[layout]
    items = list(source.find_items(files, config))
    if not items:
        expected = (source.__doc__ or "").strip().splitlines()[0]
        raise ValueError(f"{files.root}: found no images in the layout {layout!r} ({expected})")
    key, count = Counter(item.key for item in items).most_common(1)[0]
    if count > 1:
        paths = " and ".join(str(item.image or item.mask) for item in items if item.key == key)
        raise ValueError(f"{files.root}: the key {key!r} is there {count} times ({paths}); rename or remove one")
    return items


def _group(key: str, pattern: str | None) -> str:
    match = pattern and re.search(pattern, key)
    if not match:
        return key
    # A group that took no part in the match, or matched nothing, says nothing about the key.
    return (match.group(1) if match.re.groups else match.group(0)) or key


def items_of(plan_rows: pd.DataFrame) -> list[tuple[Item, str]]:
    """Returns (item, group) of each row of an index or a plan."""
    columns = [plan_rows[name].astype(object).where(plan_rows[name].notna(), None) for name in Item._fields[:5]]
    return [(Item(*values), group) for *values, group in zip(*columns, plan_rows["group"], strict=True)]
