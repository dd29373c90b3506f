"""Commit: the shards' reports become info.json, written last."""

import importlib.metadata
import io
import json
import math
import platform
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from preprocess.plan.split import SPLITS
from preprocess.storage import delete_files, list_files, write_file
from preprocess.write import ShardReport, ShardSettings
from records.files import join
from records.info import INFO_FILE, RecordsInfo, SplitInfo
from records.schema import FEATURES
from records.shards import OFFSETS_FILE, Shard
from records.tfds import DATASET_INFO_FILE, FEATURES_FILE, dataset_info_json, features_json

REJECTED_FILE = "rejected.csv"
VOLUMES_FILE = "volumes.parquet"


_GROUP_ROWS = 4096
"""Rows of a Parquet file that are read together: few, so that a worker that wants a shard's rows reads few others."""


def write_table(folder: str, name: str, table: pd.DataFrame) -> None:
    """Writes a table as Parquet, atomically."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, row_group_size=_GROUP_ROWS)
    write_file(join(folder, name), buffer.getvalue())


def rejected_rows(plan: pd.DataFrame, reports: dict[Shard, ShardReport]) -> pd.DataFrame:
    """Returns key, stage, reason and image of what is bad: "index" found it at first sight, "write" on reading it all.

    A bad volume is one row, or one for each slice or tile that was to be written; its image says that they are one.
    """
    early = plan.loc[plan["status"] == "rejected", ["key", "reason"]].assign(stage="index")
    late = [(key, reason, "write") for report in reports.values() for key, reason in report.rejected]
    rows = pd.concat([early, pd.DataFrame(late, columns=["key", "reason", "stage"])], ignore_index=True)
    known = plan.loc[plan["key"].isin(rows["key"]), ["key", "image"]].drop_duplicates("key").set_index("key")["image"]
    return rows[["key", "stage", "reason"]].assign(image=rows["key"].map(known).fillna(rows["key"]))


def check_rejects(rejected: pd.DataFrame, plan: pd.DataFrame, max_rejects: float) -> int:
    """Returns how many raw images or volumes are bad.

    Raises:
      ValueError: they are more than the user allows, or all of them.
    """
    bad, total = rejected["image"].nunique(), plan["image"].fillna(plan["key"]).nunique()
    if bad > max_rejects * total or bad == total:
        examples = "; ".join(rejected.drop_duplicates("image")["reason"].iloc[:3])
        raise ValueError(
            f"{bad} of {total} items are bad, more than --max_rejects {max_rejects:g} allows. "
            f"The first: {examples}. All stand in {REJECTED_FILE}; mend them, or allow more"
        )
    return bad


def write_rejected(folder: str, rejected: pd.DataFrame) -> None:
    """Writes rejected.csv."""
    text = rejected[["key", "stage", "reason"]].to_csv(index=False, lineterminator="\r\n")
    write_file(join(folder, REJECTED_FILE), text.encode())


def commit(
    config: dict[str, Any],
    settings: ShardSettings,
    labeled: bool,
    reports: dict[Shard, ShardReport],
    rejected: int,
) -> RecordsInfo:
    """Writes the tables and, last, info.json; returns what it says.

    Args:
      config: as `PreprocessConfig.content` returns it.
      settings: of the shards.
      labeled: whether there are masks.
      reports: of all shards.
      rejected: number of bad items.
    """
    folder, classes, target = settings.folder, settings.classes, settings.target
    folds = config["splits"]["folds"]
    names = [*(f"fold{number}" for number in range(folds)), "test"] if folds else SPLITS
    splits = {split: [(shard, reports[shard]) for shard in reports if shard.split == split] for split in names}
    everything = list(reports.values())
    instances = any(report.instance_maps for report in everything)
    training = [report for split, rows in splits.items() if split not in ("val", "test") for _, report in rows]
    mean, std = _pixel_statistics([report for report in training if report.pixels] or everything)
    sizes = {tuple(size) for report in everything for size in report.sizes}
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    is_volume = config["layout"] == "ct"
    # A transform stretches values: they are Hounsfield units no more.
    is_hu = is_volume and config["intensity"] == "none"
    intensity = {"offset": -32768, "unit": "HU"} if is_hu else {"offset": 0, "unit": "stored value"}
    info = RecordsInfo(
        name=config["name"],
        classes=classes,
        overlapping=settings.overlapping,
        labeled=labeled,
        instances=instances,
        height=height,
        width=width,
        channels=target.channels,
        dtype=target.dtype,
        coding="raw" if config["coding"] == "raw" else "image",
        intensity={**intensity, "slope": 1, "transform": config["intensity"]},
        mean=mean,
        std=std,
        splits={split: _split_info([report for _, report in rows], classes) for split, rows in splits.items()},
        rejected=rejected,
        warnings=_count_warnings(everything),
        config=config,
        fingerprint=settings.fingerprint,
        versions=_versions(),
    )
    _write_offsets(folder, reports, labeled)
    keys = _stored_keys(everything, labeled, is_volume)
    write_file(join(folder, FEATURES_FILE), features_json(info, keys).encode())
    write_file(join(folder, DATASET_INFO_FILE), dataset_info_json(info).encode())
    write_file(join(folder, INFO_FILE), info.to_json().encode())
    return info


def write_volumes(folder: str, index: pd.DataFrame) -> None:
    """Writes volumes.parquet, where there are volumes: how each lies in space, to put its slices together again.

    Columns: group, image (path), shape (of the file), affine (of the file: voxel indices to millimetres, 16 numbers row
    by row), axis_codes (of the file), slices.
    """
    slices = index[index["geometry"].notna()]
    if slices.empty:
        delete_files(folder, [name for name in list_files(folder) if name == VOLUMES_FILE])
        return
    volumes = slices.drop_duplicates("image")
    geometry = [json.loads(text) for text in volumes["geometry"]]
    table = pd.DataFrame(
        {
            "group": volumes["group"].to_numpy(),
            "image": volumes["image"].to_numpy(),
            "shape": [one["shape"] for one in geometry],
            "affine": [[value for row in one["affine"] for value in row] for one in geometry],
            "axis_codes": [one["axis_codes"] for one in geometry],
            "slices": slices.groupby("image")["key"].count()[volumes["image"]].to_numpy(),
        }
    )
    write_table(folder, VOLUMES_FILE, table)


def _count_warnings(reports: list[ShardReport]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report.warnings)
    return dict(sorted(total.items()))


def _stored_keys(reports: list[ShardReport], labeled: bool, is_volume: bool) -> set[str]:
    missing = set() if is_volume else {"image/slice_index", "image/spacing_mm"}
    if not labeled:
        missing |= {"image/segmentation/class/encoded", "image/segmentation/class/format"}
    if not any(report.instance_maps for report in reports):
        missing.add("image/segmentation/instance/encoded")
    if not any(any(report.object_counts) for report in reports):
        missing.add("image/object/count")
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


def _write_offsets(folder: str, reports: dict[Shard, ShardReport], labeled: bool) -> None:
    """Writes offsets.parquet: where each record lies, and which classes it holds (null where unlabelled).

    Through Arrow, not pandas, which would make a Python object of every row's list.
    """
    held = pa.list_(pa.uint8())
    tables = []
    for shard, report in reports.items():
        count = len(report.keys)
        classes = pa.nulls(count, held)
        if labeled:
            borders = np.cumsum([0, *report.record_class_counts])
            values = pa.array(report.record_classes, pa.uint8())
            classes = pa.ListArray.from_arrays(pa.array(borders, pa.int32()), values)
        columns = {
            "key": pa.array(report.keys, pa.string()),
            "split": pa.array([shard.split] * count, pa.string()),
            "shard": pa.array([shard.name] * count, pa.string()),
            "position": pa.array(range(count), pa.int64()),
            "offset": pa.array(report.offsets, pa.int64()),
            "classes": classes,
        }
        tables.append(pa.table(columns))
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer, row_group_size=_GROUP_ROWS)
    write_file(join(folder, OFFSETS_FILE), buffer.getvalue())


def _versions() -> dict[str, str]:
    packages = ("apache-beam", "numpy", "opencv-python-headless", "pandas", "pillow", "protobuf")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
