"""Masks that another tool made, an image file for each record."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.foreign.names import RecordNames
from imaging.codec import decode_mask
from records.info import RecordsInfo
from records.schema import Record

SUFFIX = ".png"


class Prediction(NamedTuple):
    """What was predicted for a record.

    Attributes:
      mask: [height, width], uint8 class indices or, where classes overlap, uint16 bit fields.
      objects: integers [height, width], 0 = none, the objects of the one class; None: the connected parts of the mask.
    """

    mask: np.ndarray
    objects: np.ndarray | None = None


def empty_mask(record: Record, info: RecordsInfo) -> np.ndarray:
    """Returns the mask of a record in which nothing is."""
    return np.zeros((record.height, record.width), np.uint16 if info.overlapping else np.uint8)


def read_masks(
    path: Path, names: RecordNames, info: RecordsInfo, instances: bool, missing_is_empty: bool, tell: Callable
) -> Callable[[Record], Prediction]:
    """Returns what reads the prediction of a record, from a folder of PNG files and the folders in it.

    Args:
      path: of the folder.
      names: of the records that are to be judged.
      info: of the records.
      instances: whether the files' values number objects; else they are those of the records' masks.
      missing_is_empty: whether nothing was predicted for a record without a file.
      tell: called with a line on files that are left out, or that lack.

    Raises:
      ValueError: files are of no record, two are of one, a record has none; values number objects though there are
        several classes. What is returned raises it where a file does not fit its record.
    """
    if instances and len(info.scored_classes) != 1:
        raise ValueError(
            f"instances: expected records of one class beside the background, found {', '.join(info.classes)}; "
            "numbers of objects do not say their class"
        )
    files = _find_files(path, names, tell)
    lacking = [key for key in names.keys if key not in files]
    if lacking and not missing_is_empty:
        raise ValueError(
            f"{path}: expected a file for each of {len(names.keys)} records, found none for {len(lacking)}, such as "
            f"{lacking[0]!r}; --missing empty counts them as empty predictions"
        )
    if lacking:
        tell(f"{len(lacking)} of {len(names.keys)} records have no file: nothing is predicted there")

    def read(record: Record) -> Prediction:
        if record.source_id not in files:
            return Prediction(empty_mask(record, info))
        return _read_mask(files[record.source_id], record, info, instances)

    return read


def _find_files(path: Path, names: RecordNames, tell: Callable) -> dict[str, Path]:
    """Returns the files of the records, by key."""
    files: dict[str, Path] = {}
    unknown, elsewhere, count = [], 0, 0
    for file in sorted(file for file in path.rglob("*") if file.suffix.lower() == SUFFIX and file.is_file()):
        count += 1
        called = file.relative_to(path).with_suffix("").as_posix(), file.stem
        try:
            key = names.find(*called)
        except ValueError as error:
            raise ValueError(f"{_shown(file)}: {error}") from error
        if key is None:
            is_elsewhere = names.is_elsewhere(*called)
            elsewhere += is_elsewhere
            unknown += [] if is_elsewhere else [file]
        elif key in files:
            raise ValueError(
                f"{path}: expected one file for the record {key!r}, found {_shown(files[key])} and {_shown(file)}; "
                "take one away"
            )
        else:
            files[key] = file
    if not count:
        raise ValueError(f"{path}: expected a mask for each record as a PNG file, found none")
    if unknown:
        raise ValueError(
            f"{path}: expected files that are called as the records' keys or raw images, found {_shown(unknown[0])} "
            f"({len(unknown)} of {count} files), which no record is; take them away or rename them"
        )
    if elsewhere:
        tell(f"{elsewhere} of {count} files are of images that are not in this split: they are left out")
    return files


def _read_mask(file: Path, record: Record, info: RecordsInfo, instances: bool) -> Prediction:
    try:
        pixels = decode_mask(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{_shown(file)}: {error}") from error
    if pixels.shape != (record.height, record.width):
        found = "x".join(map(str, pixels.shape))
        raise ValueError(
            f"{_shown(file)}: expected the size of its record, {record.height}x{record.width}, found {found}; masks of "
            "the raw images' size are judged on records that `python -m preprocess` made with --size null"
        )
    binary = len(info.scored_classes) == 1 and not info.overlapping
    if instances or binary:
        (number,) = info.scored_classes
        value = 1 << number if info.overlapping else number
        mask = np.where(pixels > 0, value, 0).astype(empty_mask(record, info).dtype)
        return Prediction(mask, pixels if instances else None)
    limit = 1 << len(info.classes) if info.overlapping else len(info.classes)
    if pixels.max(initial=0) >= limit:
        what = "the bits of" if info.overlapping else "an index of"
        raise ValueError(
            f"{_shown(file)}: expected in each pixel {what} the classes ({', '.join(info.classes)}), 0 to {limit - 1}, "
            f"found {pixels.max()}"
        )
    return Prediction(pixels.astype(np.uint16 if info.overlapping else np.uint8))


def _shown(file: Path) -> str:
    # A name that is no text in UTF-8 cannot be printed as it is.
    return str(file).encode(errors="backslashreplace").decode()
