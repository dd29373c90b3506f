"""Write: one shard is one task, done or not done.

A task ends by renaming two files: the shard, then `<shard>.json` with all that is to be known of it. Only with both
is a shard finished; a run that was killed makes the others.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig
from preprocess.convert import Converted, Opened, Target, convert, open_item
from preprocess.index import planned_items
from preprocess.plan import PLAN_FILE
from preprocess.raw import RawFiles
from preprocess.sources.item import Item
from preprocess.storage import atomic_file, list_files, open_file, read_file, write_file
from records.files import join
from records.schema import count_classes, encode
from records.shards import Shard, frame

ANNOTATIONS_FILE = "annotations.parquet"
"""What the layout's table says of each image of each shard; gone when the records are finished."""

_COUNT_BINS = 16


@dataclass(frozen=True)
class ShardTask:
    """A shard to be made, and how many items it has; which ones stands in the plan's file.

    A million rows in the tasks would go to every worker.
    """

    shard: Shard
    items: int

    @property
    def done_file(self) -> str:
        """The file whose existence says that the shard is finished."""
        return f"{self.shard.name}.json"


@dataclass
class ShardReport:
    """What is known of a finished shard; the content of `<shard>.json`.

    offsets: byte offset of each record's frame; keys: of each record. channel_sums, channel_squares: of all pixels.
    record_classes: the classes of which each record's mask holds a pixel, ascending, one record's behind the other's;
    record_class_counts: how many of them are each record's; both empty where unlabelled.
    instance_maps: number of records that have one. rejected: [key, reason] of items that turned out bad. warnings: what
    was mended on reading raw files -> how many times. The rest as in `records.info.SplitInfo`.
    """

    fingerprint: str
    bytes: int = 0
    crc32c: str = ""
    keys: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    pixels: int = 0
    channel_sums: list[float] = field(default_factory=list)
    channel_squares: list[float] = field(default_factory=list)
    class_pixels: list[int] = field(default_factory=list)
    ignored_pixels: int = 0
    class_examples: list[int] = field(default_factory=list)
    record_classes: list[int] = field(default_factory=list)
    record_class_counts: list[int] = field(default_factory=list)
    object_counts: list[int] = field(default_factory=lambda: [0] * _COUNT_BINS)
    instance_maps: int = 0
    lost_pixels: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    rejected: list[list[str]] = field(default_factory=list)
    warnings: dict[str, int] = field(default_factory=dict)

    def add(self, converted: Converted, offset: int, overlapping: bool) -> None:
        """Counts one record."""
        record, image, mask, lost_pixels, warnings = converted
        self.keys.append(record.source_id)
        self.offsets.append(offset)
        self.lost_pixels += lost_pixels
        if [record.height, record.width] not in self.sizes:
            self.sizes.append([record.height, record.width])
        mean, deviation = (values.ravel() for values in cv2.meanStdDev(image))
        pixels = record.height * record.width
        self.pixels += pixels
        self.channel_sums = _add(self.channel_sums, mean * pixels)
        self.channel_squares = _add(self.channel_squares, (deviation**2 + mean**2) * pixels)
        for warning in warnings:
            self.warnings[warning] = self.warnings.get(warning, 0) + 1
        if mask is not None:
            counts, ignored = count_classes(mask, len(self.class_pixels), overlapping)
            assert overlapping or counts.sum() + ignored == mask.size, f"{record.source_id}: a mask value is no class"
            self.ignored_pixels += ignored
            self.class_pixels = _add(self.class_pixels, counts)
            held = np.flatnonzero(counts)
            self.class_examples = _add(self.class_examples, counts > 0)
            self.record_classes += held.tolist()
            self.record_class_counts.append(len(held))
        self.instance_maps += record.instances is not None
        if record.objects is not None:
            self.object_counts[min(record.objects.bit_length(), _COUNT_BINS - 1)] += 1


@dataclass(frozen=True)
class ShardSettings:
    """What the making of every shard of a dataset needs.

    layout: key of `SOURCES`. folder: of the records. target: what every image becomes. classes: names by mask value.
    overlapping: whether masks are bit fields. annotated: whether there is an `ANNOTATIONS_FILE`. fingerprint: of the
    records.
    """

    layout: str
    folder: str
    target: Target
    classes: list[str]
    overlapping: bool
    annotated: bool
    fingerprint: str


class WriteShardFn(beam.DoFn):
    """Writes the shard of a task and then its report."""

    def __init__(self, files: RawFiles, settings: ShardSettings, config: PreprocessConfig):
        """Binds what every task needs."""
        self._files, self._settings, self._config = files, settings, config

    def setup(self):
        """Leaves the cores to the other processes."""
        cv2.setNumThreads(1)

    def process(self, task: ShardTask):
        """Writes two files; yields nothing."""
        settings = self._settings
        zeros = [0] * len(settings.classes)
        report = ShardReport(settings.fingerprint, class_pixels=zeros, class_examples=zeros)
        with atomic_file(join(settings.folder, task.shard.name)) as file:
            for item, group, opened in self._open_items(task.shard):
                if isinstance(opened, ValueError):
                    report.rejected.append([item.key, str(opened)])
                    continue
                converted = convert(opened, item, group, settings.target, self._config)
                report.add(converted, file.bytes, settings.overlapping)
                file.write(frame(encode(converted.record)))
            report.bytes, report.crc32c = file.bytes, f"{file.crc32c:08x}"
        write_file(join(settings.folder, task.done_file), json.dumps(asdict(report)).encode())

    def _open_items(self, shard: Shard) -> Iterator[tuple[Item, str, Opened | ValueError]]:
        """Yields (item, group, what it holds or why it is bad); tiles of one image, which are neighbours, share it."""
        place = opened = None
        rows = _rows_of_shard(self._settings.folder, PLAN_FILE, shard)
        annotations = _annotations(self._settings.folder, shard) if self._settings.annotated else {}
        for item, row in planned_items(rows, annotations):
            if place != (item.image, item.slice_index):
                place = (item.image, item.slice_index)
                hashes = (row["sha256"], row["mask_hash"])
                try:
                    opened = open_item(self._settings.layout, self._files, item, *hashes, self._config)
                except ValueError as error:
                    opened = error
            yield item, row["group"], opened


def shard_tasks(plan: pd.DataFrame, name: str) -> list[ShardTask]:
    """Returns a task for every shard of the plan."""
    rows = plan[plan["status"] == "in"]
    sizes = rows.groupby(["split", "shards", "shard"], sort=False).size()
    return [
        ShardTask(Shard(name, split, int(shard), int(count)), int(size))
        for (split, count, shard), size in sizes.items()
    ]


def by_work(tasks: list[ShardTask], plan: pd.DataFrame) -> list[ShardTask]:
    """Returns the tasks with the most work first, so that workers that get every n-th of them end together."""
    rows = plan[plan["status"] == "in"]
    # Mostly decoding: of the image, and of as many masks as it has objects.
    pixels = rows["height"] * rows["width"] * (3 + rows["objects"].fillna(0))
    work = pixels.groupby([rows["split"], rows["shard"]]).sum()
    return sorted(tasks, key=lambda task: (-work[task.shard.split, task.shard.index], task.shard.name))


def annotation_rows(plan: pd.DataFrame, annotations: dict[str, str]) -> pd.DataFrame:
    """Returns the table of `ANNOTATIONS_FILE`: split, shard, image, annotation; each image once in a shard.

    Args:
      plan: as `make_plan` returns it.
      annotations: path of the image -> annotation.
    """
    rows = plan.loc[plan["status"] == "in", ["split", "shard", "image"]].drop_duplicates()
    return rows.assign(annotation=rows["image"].map(annotations))


def _annotations(folder: str, shard: Shard) -> dict[str, str]:
    rows = _rows_of_shard(folder, ANNOTATIONS_FILE, shard)
    return dict(zip(rows["image"], rows["annotation"], strict=True))


def _rows_of_shard(folder: str, name: str, shard: Shard) -> pd.DataFrame:
    with open_file(join(folder, name)) as file:
        return pd.read_parquet(file, filters=[("split", "==", shard.split), ("shard", "==", shard.index)])


def finished_reports(folder: str, tasks: list[ShardTask], fingerprint: str) -> dict[Shard, ShardReport]:
    """Returns the reports of the shards that are finished: both files there, of this fingerprint, in full length.

    A report that another version of this program wrote, with other contents, does not count.
    """
    files, contents = list_files(folder), {content.name for content in fields(ShardReport)}
    reports: dict[Shard, ShardReport] = {}
    for task in tasks:
        if task.done_file in files:
            content: dict[str, Any] = json.loads(read_file(join(folder, task.done_file)))
            is_whole = content["bytes"] == files.get(task.shard.name) and content.keys() == contents
            if is_whole and content["fingerprint"] == fingerprint:
                reports[task.shard] = ShardReport(**content)
    return reports


def _add(total: list, values: np.ndarray) -> list:
    return (np.asarray(total) + values).tolist() if total else values.tolist()
