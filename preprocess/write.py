"""Write: one shard is one task, done or not done.

A task ends by renaming two files: the shard, then `<shard>.json` with all that is to be known of it. Only with both
is a shard finished; a run that was killed makes the others.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig
from preprocess.convert import Converted, Target, class_names, convert
from preprocess.index import items_of
from preprocess.plan import PLAN_FILE
from preprocess.raw import RawFiles
from preprocess.storage import atomic_file, list_files, open_file, read_file, write_file
from records.files import join
from records.schema import IGNORE, encode
from records.shards import Shard, frame

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
    The rest as in `records.info.SplitInfo`. rejected: [key, reason] of items that turned out bad.
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
    object_counts: list[int] = field(default_factory=lambda: [0] * _COUNT_BINS)
    lost_pixels: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    rejected: list[list[str]] = field(default_factory=list)

    def add(self, converted: Converted, offset: int) -> None:
        """Counts one record."""
        record, image, mask, lost_pixels = converted
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
        if mask is not None:
            counts = np.bincount(mask.ravel(), minlength=256)
            self.ignored_pixels += int(counts[IGNORE])
            self.class_pixels = _add(self.class_pixels, counts[: len(self.class_pixels)])
            self.class_examples = _add(self.class_examples, counts[: len(self.class_examples)] > 0)
        if record.objects is not None:
            self.object_counts[min(record.objects.bit_length(), _COUNT_BINS - 1)] += 1


class WriteShardFn(beam.DoFn):
    """Writes the shard of a task and then its report."""

    def __init__(
        self, layout: str, files: RawFiles, folder: str, target: Target, config: PreprocessConfig, fingerprint: str
    ):
        """Binds what every task needs."""
        self._layout, self._files, self._folder = layout, files, folder
        self._target, self._config, self._fingerprint = target, config, fingerprint

    def setup(self):
        """Leaves the cores to the other processes."""
        cv2.setNumThreads(1)

    def process(self, task: ShardTask):
        """Writes two files; yields nothing."""
        classes = class_names(self._layout, self._config)
        report = ShardReport(self._fingerprint, class_pixels=[0] * len(classes), class_examples=[0] * len(classes))
        with atomic_file(join(self._folder, task.shard.name)) as file:
            for item, group in items_of(_planned_rows(self._folder, task.shard)):
                try:
                    converted = convert(self._layout, self._files, item, group, self._target, self._config)
                except ValueError as error:
                    report.rejected.append([item.key, str(error)])
                    continue
                report.add(converted, offset=file.bytes)
                file.write(frame(encode(converted.record)))
            report.bytes, report.crc32c = file.bytes, f"{file.crc32c:08x}"
        write_file(join(self._folder, task.done_file), json.dumps(asdict(report)).encode())


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


def _planned_rows(folder: str, shard: Shard) -> pd.DataFrame:
    rows = [("split", "==", shard.split), ("shard", "==", shard.index)]
    columns = ["key", "group", "image", "mask", "objects", "split"]
    with open_file(join(folder, PLAN_FILE)) as file:
        return pd.read_parquet(file, columns=columns, filters=rows)


def finished_reports(folder: str, tasks: list[ShardTask], fingerprint: str) -> dict[Shard, ShardReport]:
    """Returns the reports of the shards that are finished: both files there, of this fingerprint, in full length."""
    files = list_files(folder)
    reports: dict[Shard, ShardReport] = {}
    for task in tasks:
        if task.done_file in files:
            content: dict[str, Any] = json.loads(read_file(join(folder, task.done_file)))
            if content["fingerprint"] == fingerprint and content["bytes"] == files.get(task.shard.name):
                reports[task.shard] = ShardReport(**content)
    return reports


def _add(total: list, values: np.ndarray) -> list:
    return (np.asarray(total) + values).tolist() if total else values.tolist()
