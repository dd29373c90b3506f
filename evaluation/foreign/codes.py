"""Masks that another tool made, as rows of run-length code in a Kaggle competition's form, see `FORMS`."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from evaluation.foreign.masks import Prediction, empty_mask
from evaluation.foreign.names import RecordNames
from imaging.objects import merge_objects
from imaging.resize import resize_mask
from imaging.rle import decode_rle
from inference.outputs.forms import FORMS
from records.info import RecordsInfo
from records.schema import Record

_CODE = "EncodedPixels"
_ROWS_AT_ONCE = 10_000


class _Row(NamedTuple):
    """A row of the file: its number; its class, None where rows are objects; where its code is kept, in bytes."""

    number: int
    class_name: str | None
    start: int
    length: int


def read_codes(path: Path, names: RecordNames, info: RecordsInfo, tell: Callable) -> Callable[[Record], Prediction]:
    """Returns what reads the prediction of a record, from a CSV file.

    A record without rows has nothing predicted. Code of objects is of the raw image's size; that of classes is of the
    size that the form of the clouds has, and stretched.

    Args:
      path: of the file.
      names: of the records that are to be judged.
      info: of the records.
      tell: called with a line on rows that are left out, or that lack.

    Raises:
      ValueError: it is no such file, its form does not fit the records, or rows are of no image. What is returned
        raises it where code does not fit its record.
    """
    form = _read_form(path)
    _check_form(path, form, info)
    codes = _Codes(path, form, names, info)
    lacking = len(names.keys) - len(codes.rows)
    for count, what in (
        (codes.elsewhere, "rows are of images that are not in this split: they are left out"),
        (codes.other_classes, "rows are of classes that the records lack: they are left out"),
        (lacking, f"of {len(names.keys)} images have no row: nothing is predicted there"),
    ):
        if count:
            tell(f"{count} {what}")
    return codes.read_classes if FORMS[form].classes else codes.read_objects


class _Codes:
    """The code of every record, kept on the disk: that of all images would fill the memory."""

    def __init__(self, path: Path, form: str, names: RecordNames, info: RecordsInfo):
        """Takes the path of the file, its form, and whose predictions are in it."""
        self._path, self._form, self._info = path, FORMS[form], info
        self._classes = [info.classes[index] for index in info.scored_classes]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self.rows: dict[str, list[_Row]] = defaultdict(list)
        self.elsewhere = self.other_classes = end = 0
        for number, (row_id, code) in enumerate(_read_rows(path), 2):
            image, class_name = self._take_apart(row_id, number)
            try:
                key = names.find(image)
            except ValueError as error:
                raise ValueError(f"{path}: row {number}: {error}") from error
            if key is None:
                if not names.is_elsewhere(image):
                    raise ValueError(
                        f"{path}: row {number}: expected the name of an image of the records, found {image!r}; choose "
                        "records of these images"
                    )
                self.elsewhere += 1
            elif class_name is not None and class_name not in self._classes:
                self.rows.setdefault(key, [])  # an image that has a row is not one that was left out
                self.other_classes += bool(code)
            else:
                row = _Row(number, class_name, end, len(code))
                end += self._file.write(code.encode("ascii", "replace"))
                self.rows[key].append(row)

    def _take_apart(self, row_id: str, number: int) -> tuple[str, str | None]:
        """Returns (image, class; None where rows are objects)."""
        if self._form.classes is None:
            return row_id, None
        image, _, class_name = row_id.rpartition("_")
        if class_name not in (*self._form.classes, *self._classes):
            raise ValueError(
                f"{self._path}: row {number}: expected an {self._form.column} such as 0011165.jpg_Fish, found "
                f"{row_id!r}"
            )
        return image, class_name

    def read_objects(self, record: Record) -> Prediction:
        """Returns the prediction of a record, each row an object, the smaller on top where they overlap."""
        if (record.height, record.width) != (record.original_height, record.original_width):
            raise ValueError(
                f"{self._path}: expected records of the raw images' size, which run-length code counts in, found "
                f"{record.source_id!r} of {record.height}x{record.width} from "
                f"{record.original_height}x{record.original_width}; preprocess with --size null"
            )
        masks = (mask for _, mask in self._masks(record, record.height, record.width))
        objects = merge_objects(masks, record.height, record.width).instances
        mask = empty_mask(record, self._info)
        mask[objects > 0] = self._value(self._info.scored_classes[0])
        return Prediction(mask, objects)

    def read_classes(self, record: Record) -> Prediction:
        """Returns the prediction of a record, each row a class."""
        if record.crop != (0, 0, record.original_height, record.original_width):
            raise ValueError(
                f"{self._path}: expected records of whole images, found {record.source_id!r}, a tile; preprocess "
                "without --tile"
            )
        mask = empty_mask(record, self._info)
        seen = set()
        for row, area in self._masks(record, *self._form.size):
            if row.class_name in seen:
                raise ValueError(
                    f"{self._path}: row {row.number}: expected one row for {row.class_name} in {record.source_id!r}, "
                    "found another"
                )
            seen.add(row.class_name)
            value = self._value(self._info.classes.index(row.class_name))
            mask |= resize_mask(area, record.height, record.width).astype(mask.dtype) * mask.dtype.type(value)
        return Prediction(mask)

    def _masks(self, record: Record, height: int, width: int) -> Iterator[tuple[_Row, np.ndarray]]:
        """Yields (row, uint8 [height, width] in {0, 1}) for the rows of a record."""
        for row in self.rows.get(record.source_id, []):
            self._file.seek(row.start)
            try:
                yield row, decode_rle(self._file.read(row.length).decode(), height, width)
            except ValueError as error:
                raise ValueError(f"{self._path}: row {row.number}, image {record.source_id!r}: {error}") from error

    def _value(self, class_index: int) -> int:
        return 1 << class_index if self._info.overlapping else class_index


def _read_form(path: Path) -> str:
    """Returns which form a file has, by its first row: "airbus", which is that of nuclei too, or "clouds"."""
    table = next(_read_chunks(path, 1), pd.DataFrame())
    found = list(table.columns)
    for form in ("airbus", "clouds"):
        if len(table) and found == [FORMS[form].column, _CODE]:
            return form
    expected = " or ".join(f"{FORMS[form].column},{_CODE}" for form in ("airbus", "clouds"))
    raise ValueError(
        f"{path}: expected the columns {expected} and rows beneath them, found {','.join(found)[:80] or 'nothing'!r}"
    )


def _check_form(path: Path, form: str, info: RecordsInfo) -> None:
    """Raises ValueError unless the form's rows can be masks of these classes."""
    scored = [info.classes[index] for index in info.scored_classes]
    if FORMS[form].classes is None and len(scored) != 1:
        raise ValueError(
            f"{path}: expected rows for each class, {FORMS['clouds'].column},{_CODE}, or records of one class, found "
            f"rows of objects and the classes {', '.join(scored)}"
        )
    if FORMS[form].classes is not None and len(scored) != 1 and not info.overlapping:
        raise ValueError(
            f"{path}: expected records whose classes overlap, as rows for each class may, found exclusive ones "
            f"({', '.join(scored)}); preprocess without --overlap exclusive"
        )


def _read_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (id, code) of every row."""
    for table in _read_chunks(path, _ROWS_AT_ONCE):
        yield from zip(table.iloc[:, 0], table.iloc[:, 1].str.strip(), strict=True)


def _read_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yields the rows of a CSV file, so many at once, as text; nothing if it is empty."""
    try:
        with pd.read_csv(
            path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True, chunksize=rows
        ) as tables:
            for table in tables:
                if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first of too many cells for an index
                    raise ValueError(f"expected {len(table.columns)} cells in every row, found more")
                yield table.fillna("")
    except pd.errors.EmptyDataError:
        return
    except ValueError as error:
        raise ValueError(f"{path}: expected a CSV file in UTF-8: {' '.join(str(error).split())}") from error
