"""Commit: the shards' reports become info.json, written last."""

import csv
import importlib.metadata
import io
import math
import platform
from typing import Any

import pandas as pd

from preprocess.convert import Target
from preprocess.plan import SPLITS
from preprocess.storage import delete_files, write_file
from preprocess.write import ShardReport
from records.files import join
from records.info import INFO_FILE, RecordsInfo, SplitInfo
from records.schema import FEATURES
from records.shards import Shard
from records.tfds import DATASET_INFO_FILE, FEATURES_FILE, dataset_info_json, features_json

OFFSETS_FILE = "offsets.parquet"
REJECTED_FILE = "rejected.csv"


def write_table(folder: str, name: str, table: pd.DataFrame) -> None:
    """Writes a table as Parquet, atomically."""
    buffer = io.BytesIO()
    # Small groups of rows, so that a worker that wants a shard's rows reads few others.
    table.to_parquet(buffer, index=False, row_group_size=4096)
    write_file(join(folder, name), buffer.getvalue())


def rejected_rows(plan: pd.DataFrame, reports: dict[Shard, ShardReport]) -> list[tuple[str, str, str]]:
    """Returns (key, stage, reason) of every bad item: "index" found it at first sight, "write" on reading it all."""
    early = plan[plan["status"] == "rejected"]
    rows = [(row.key, "index", row.reason) for row in early.itertuples()]
    return rows + [(key, "write", reason) for report in reports.values() for key, reason in report.rejected]


def check_rejects(rejected: list[tuple[str, str, str]], items: int, max_rejects: float) -> None:
    """Raises ValueError if more items are bad than the user allows, or all of them."""
    if len(rejected) > max_rejects * items or len(rejected) == items:
        examples = "; ".join(reason for _, _, reason in rejected[:3])
        raise ValueError(
            f"{len(rejected)} of {items} items are bad, more than --max_rejects {max_rejects:g} allows. "
            f"The first: {examples}. All stand in {REJECTED_FILE}; mend them, or allow more"
        )


def write_rejected(folder: str, rejected: list[tuple[str, str, str]]) -> None:
    """Writes rejected.csv."""
    text = io.StringIO()
    csv.writer(text).writerows([("key", "stage", "reason"), *rejected])
    write_file(join(folder, REJECTED_FILE), text.getvalue().encode())


def commit(
    folder: str,
    config: dict[str, Any],
    classes: list[str],
    target: Target,
    labeled: bool,
    reports: dict[Shard, ShardReport],
    rejected: int,
    fingerprint: str,
) -> RecordsInfo:
    """Writes the tables and, last, info.json; then removes the shards' reports. Returns what info.json says.

    Args:
      folder: of the records.
      config: as `PreprocessConfig.content` returns it.
      classes: names by mask value.
      target: what every image became.
      labeled: whether there are masks.
      reports: of all shards.
      rejected: number of bad items.
      fingerprint: of the records.
    """
    splits = {split: [(shard, reports[shard]) for shard in reports if shard.split == split] for split in SPLITS}
    everything = list(reports.values())
    instances = any(any(report.object_counts) for report in everything)
    mean, std = _pixel_statistics([report for _, report in splits["train"] if report.pixels] or everything)
    sizes = {tuple(size) for report in everything for size in report.sizes}
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    info = RecordsInfo(
        name=config["name"],
        classes=classes,
        labeled=labeled,
        instances=instances,
        height=height,
        width=width,
        channels=target.channels,
        dtype=target.dtype,
        intensity={"offset": 0, "slope": 1, "unit": "stored value"},
        mean=mean,
        std=std,
        splits={split: _split_info([report for _, report in rows], classes) for split, rows in splits.items()},
        rejected=rejected,
        config=config,
        fingerprint=fingerprint,
        versions=_versions(),
    )
    write_table(folder, OFFSETS_FILE, _offsets(reports))
    write_file(join(folder, FEATURES_FILE), features_json(info, _stored_keys(labeled, instances)).encode())
    write_file(join(folder, DATASET_INFO_FILE), dataset_info_json(info).encode())
    write_file(join(folder, INFO_FILE), info.to_json().encode())
    delete_files(folder, [f"{shard.name}.json" for shard in reports])
    return info


def _stored_keys(labeled: bool, instances: bool) -> set[str]:
    missing = set()
    if not labeled:
        missing |= {"image/segmentation/class/encoded", "image/segmentation/class/format"}
    if not instances:
        missing |= {"image/segmentation/instance/encoded", "image/object/count"}
    return FEATURES.keys() - missing


def _split_info(reports: list[ShardReport], classes: list[str]) -> SplitInfo:
    def total(name: str, length: int) -> list[int]:
        rows = [getattr(report, name) for report in reports]
        return [sum(row[index] for row in rows) for index in range(length)]

    return SplitInfo(
        shard_lengths=[len(report.keys) for report in reports],
        shard_bytes=[report.bytes for report in reports],
        shard_crc32c=[report.crc32c for report in reports],
        class_pixels=total("class_pixels", len(classes)),
        ignored_pixels=sum(report.ignored_pixels for report in reports),
        class_examples=total("class_examples", len(classes)),
        object_counts=total("object_counts", len(ShardReport("").object_counts)),
        lost_pixels=sum(report.lost_pixels for report in reports),
    )


def _pixel_statistics(reports: list[ShardReport]) -> tuple[list[float], list[float]]:
    pixels = sum(report.pixels for report in reports)
    sums = [sum(values) for values in zip(*(r.channel_sums for r in reports if r.pixels), strict=True)]
    squares = [sum(values) for values in zip(*(r.channel_squares for r in reports if r.pixels), strict=True)]
    mean = [value / pixels for value in sums]
    variance = [max(0.0, square / pixels - m * m) for square, m in zip(squares, mean, strict=True)]
    # A constant channel keeps its scale: dividing by zero would not.
    return mean, [math.sqrt(value) or 1.0 for value in variance]


def _offsets(reports: dict[Shard, ShardReport]) -> pd.DataFrame:
    rows = [
        (key, shard.split, shard.name, position, offset)
        for shard, report in reports.items()
        for position, (key, offset) in enumerate(zip(report.keys, report.offsets, strict=True))
    ]
    return pd.DataFrame(rows, columns=["key", "split", "shard", "position", "offset"])


def _versions() -> dict[str, str]:
    packages = ("apache-beam", "numpy", "opencv-python-headless", "pandas", "pillow", "protobuf")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
