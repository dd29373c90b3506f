"""The job: index, plan, write, commit."""

import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from preprocess.commit import (
    REJECTED_FILE,
    VOLUMES_FILE,
    check_rejects,
    commit,
    rejected_rows,
    write_rejected,
    write_table,
    write_volumes,
)
from preprocess.config import PreprocessConfig
from preprocess.convert import Target
from preprocess.index import INDEX_FILE, find_items, make_index
from preprocess.pipeline import run_tasks
from preprocess.plan import PLAN_FILE, describe_plan, fingerprint, make_plan
from preprocess.plan.lists import read_key_list, read_sample
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES
from preprocess.storage import TEMPORARY_SUFFIX, delete_files, list_files, make_folder, read_file
from preprocess.totals import describe_totals
from preprocess.trial import try_masks
from preprocess.write import (
    ANNOTATIONS_FILE,
    ShardReport,
    ShardSettings,
    WriteShardFn,
    annotation_rows,
    by_work,
    finished_reports,
    shard_tasks,
)
from records.checked import CHECKED_FILE
from records.files import join
from records.info import FORMAT_VERSION, INFO_FILE, RecordsInfo, read_info
from records.shards import OFFSETS_FILE, Shard
from records.tfds import DATASET_INFO_FILE, FEATURES_FILE

_CLASSES_SHOWN = 5

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""(label, total) -> context that yields a function to be told how much is done."""


def preprocess(
    layout: str, raw: str, folder: str, config: PreprocessConfig, progress: Progress, tell: Callable[[str], None]
) -> RecordsInfo | None:
    """Makes records of a raw dataset; continues where an earlier run of the same was stopped.

    Args:
      layout: key of `SOURCES`.
      raw: directory or zip of the raw dataset.
      folder: where the records go.
      config: settings.
      progress: shows how far index and write are.
      tell: shows a line to the user.

    Returns:
      The records' info, or None after `plan_only`.

    Raises:
      ValueError: the raw data or the folder are not as expected, or too many items are bad.
      OSError: the records cannot be written.
    """
    if "://" not in folder and Path(raw).resolve() == Path(folder).resolve():
        raise ValueError(f"{folder}: expected a folder of its own for the records, found the raw data's")
    config.check_layout(layout)
    keys, sample = read_key_list(config.splits.keys), read_sample(config.sample)
    files = open_raw(layout, raw, config.unlabeled)
    items = find_items(layout, files, config)
    classes = SOURCES[layout].class_names(files, config)
    make_folder(folder)
    with progress("index", len(items)) as report:
        index = make_index(layout, files, items, folder, config, report)
    plan = make_plan(index, config, keys, sample)
    for line in describe_plan(plan, config):
        tell(line)
    content = config.content(layout) | SOURCES[layout].file_settings(files, config)
    mark = fingerprint(plan, content | {"classes": classes, "format_version": FORMAT_VERSION})
    held = _what_is_held(folder, mark)
    if held == "others" and not config.overwrite:
        raise ValueError(
            f"{folder}: holds records of another dataset, of raw data that changed since, or made with other settings; "
            "choose another folder, or replace them with --overwrite"
        )
    if held == "these" and not config.overwrite:
        _tidy(folder)  # a run may have been killed between its last file and its own tidying
        tell(f"{folder} holds exactly these records already; nothing to do")
        return read_info(folder)
    # Where too many are bad at first sight, nothing is written but the reasons, and nothing is cleared.
    _check_rejects(folder, plan, {}, config)
    try_masks(layout, files, plan, config)
    target = _target(plan, config)  # it may refuse the coding: old records are still whole
    if held:
        _clear(folder)
    write_volumes(folder, index)
    write_table(folder, INDEX_FILE, index.drop(columns="geometry"))
    write_table(folder, PLAN_FILE, plan)
    if config.plan_only:
        tell(f"plan only: {join(folder, PLAN_FILE)} says what would be written")
        return None

    annotations = {item.image: item.annotation for item in items if item.annotation is not None}
    if annotations:
        write_table(folder, ANNOTATIONS_FILE, annotation_rows(plan, annotations))
    settings = ShardSettings(
        layout=layout,
        folder=folder,
        target=target,
        classes=classes,
        overlapping=SOURCES[layout].is_overlapping(config),
        annotated=bool(annotations),
        fingerprint=mark,
    )
    del index, items, annotations  # as large as the dataset is
    reports = _write(files, plan, settings, config, progress, tell)
    rejected = _check_rejects(folder, plan, reports, config)
    if rejected:
        tell(f"{rejected} bad items are left out, see {join(folder, REJECTED_FILE)}")
    if config.classes and not config.unlabeled and layout == "folder":
        _check_classes(config.classes, reports)
    if not config.unlabeled:
        _tell_missing_classes(settings, reports, tell)
    info = commit(content, settings, not config.unlabeled, reports, rejected)
    _tidy(folder)
    return info


def _write(
    files: RawFiles,
    plan: pd.DataFrame,
    settings: ShardSettings,
    config: PreprocessConfig,
    progress: Progress,
    tell: Callable[[str], None],
) -> dict[Shard, ShardReport]:
    """Makes the shards that are not finished, and tells the totals; returns the reports of all."""
    folder, started = settings.folder, time.monotonic()
    tasks = shard_tasks(plan, config.name or settings.layout)
    done = finished_reports(folder, tasks, settings.fingerprint)
    missing = [task for task in tasks if task.shard not in done]
    if done:
        tell(f"{len(done)} of {len(tasks)} shards are finished already, making the other {len(missing)}")
    with progress("write", sum(task.items for task in missing)) as report:
        fn = WriteShardFn(files, settings, config)
        run_tasks(by_work(missing, plan), fn, "WriteShards", folder, config.workers, config.beam, report)
    reports = finished_reports(folder, tasks, settings.fingerprint)
    if len(reports) < len(tasks):
        raise ValueError(
            f"{folder}: expected {len(tasks)} finished shards, found {len(reports)} though the runner ended well; "
            "the folder must be one that every worker reaches"
        )
    _tidy(folder)
    for line in describe_totals(plan, reports, {task.shard for task in missing}, time.monotonic() - started):
        tell(line)
    return reports


def _check_rejects(folder: str, plan: pd.DataFrame, reports: dict[Shard, ShardReport], config: PreprocessConfig) -> int:
    """Writes rejected.csv; returns how many items are bad, or raises ValueError if they are too many."""
    rejected = rejected_rows(plan, reports)
    write_rejected(folder, rejected)
    return check_rejects(rejected, plan, config.max_rejects)


def _check_classes(classes: list[str], reports: dict[Shard, ShardReport]) -> None:
    """Raises ValueError if the masks hold no class but the first, and 255: most likely masks of 0 and 255."""
    labelled = sum(sum(report.class_pixels[1:]) for report in reports.values())
    ignored = sum(report.ignored_pixels for report in reports.values())
    if ignored and not labelled:
        raise ValueError(
            f"no mask holds a pixel of {', '.join(classes[1:])}, but {ignored} pixels are 255, which --classes takes "
            "for ignored; if the masks are binary (0 and 255), leave out --classes"
        )


def _tell_missing_classes(
    settings: ShardSettings, reports: dict[Shard, ShardReport], tell: Callable[[str], None]
) -> None:
    """Tells which classes no mask holds: values or coordinates may mean something else than they were taken for."""
    first = 0 if settings.overlapping else 1  # the background
    pixels = np.sum([report.class_pixels for report in reports.values()], axis=0)
    missing = [name for name, count in zip(settings.classes[first:], pixels[first:], strict=True) if not count]
    if missing:
        shown = ", ".join(missing[:_CLASSES_SHOWN]) + ", …" * (len(missing) > _CLASSES_SHOWN)
        tell(f"{'warning':<10} no mask holds a pixel of {shown}")


def open_raw(layout: str, raw: str, unlabeled: bool = False) -> RawFiles:
    """Returns the raw dataset's files; a directory that only holds the layout's zip stands for the zip.

    Raises:
      ValueError: there is neither a directory nor a zip.
    """
    source = SOURCES[layout]
    archive = source.unlabeled_archive if unlabeled else source.archive
    path = Path(raw)
    if path.is_dir():
        try:
            entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise ValueError(f"{raw}: the directory cannot be read: {error.strerror}") from error
        zips = [entry for entry in entries if entry.suffix == ".zip"]
        named = [entry for entry in zips if entry.name == archive]
        if named or (len(zips) == 1 == len(entries)):
            return RawFiles(str((named or zips)[0]))
    return RawFiles(raw)


def _target(plan: pd.DataFrame, config: PreprocessConfig) -> Target:
    """Returns the most channels and the widest dtype of what is in: nothing is lost."""
    rows = plan[plan["status"] == "in"]
    target = Target(int(rows["channels"].max()), f"uint{int(rows['depth'].max())}")
    if config.coding == "jpeg" and target.dtype != "uint8":
        raise ValueError("coding: JPEG holds 8 bits a pixel, the raw images have 16; choose png or raw")
    return target


def _what_is_held(folder: str, mark: str) -> Literal["these", "others"] | None:
    """Returns whether a folder holds the finished records of this fingerprint, or (parts of) others."""
    files = list_files(folder)
    marks = {name: f'"fingerprint": "{mark}"'.encode() in read_file(join(folder, name)) for name in _reports(files)}
    if INFO_FILE in files:
        return "these" if f'"fingerprint": "{mark}"'.encode() in read_file(join(folder, INFO_FILE)) else "others"
    return None if all(marks.values()) else "others"


def _tidy(folder: str) -> None:
    """Deletes what a killed run left: temporary files and, beside finished records, what only their making needed."""
    files = list_files(folder)
    temporary = re.compile(r".*\.(tfrecord-\d+-of-\d+|json|parquet|csv)\.\d+-[0-9a-f]{8}" + re.escape(TEMPORARY_SUFFIX))
    left = [name for name in files if temporary.fullmatch(name)]
    if INFO_FILE in files:
        left += [*_reports(files), *({ANNOTATIONS_FILE} & files.keys())]
    delete_files(folder, left)


def _clear(folder: str) -> None:
    """Deletes records, and nothing else."""
    files = list_files(folder)
    if INFO_FILE in files:
        # First: what is left of the old records must not look whole.
        delete_files(folder, [INFO_FILE])
    tables = {INDEX_FILE, PLAN_FILE, OFFSETS_FILE, VOLUMES_FILE, ANNOTATIONS_FILE}
    ours = (tables | {FEATURES_FILE, DATASET_INFO_FILE, CHECKED_FILE}) & files.keys()
    delete_files(folder, [*ours, *_reports(files), *(name for name in files if Shard.parse(name))])


def _reports(files: Iterable[str]) -> list[str]:
    return [name for name in files if name.endswith(".json") and Shard.parse(name.removesuffix(".json"))]
