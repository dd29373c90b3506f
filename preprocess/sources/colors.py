"""Masks that are pictures in the colours of a table: one colour, one class."""

import csv
import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from records.schema import IGNORE

_UNKNOWN = 254


class Palette(NamedTuple):
    """Colours and their classes.

    Attributes:
      names: of the classes, by mask value.
      colors: int64 [colours, 3], RGB.
      labels: what each colour stands for: its name.
      values: uint8 [2**24], mask value by colour r * 65536 + g * 256 + b; 255 = ignore, 254 = no colour of the table.
    """

    names: list[str]
    colors: np.ndarray
    labels: list[str]
    values: np.ndarray


@lru_cache(maxsize=2)
def parse_palette(data: bytes, ignore: tuple[str, ...]) -> Palette:
    """Returns the palette of a CSV file with the columns name, r, g, b (in any order, in small or capital letters).

    Args:
      data: the file.
      ignore: names of colours that are no class: nothing is known there.

    Raises:
      ValueError: the file is not as expected, or names something else.
    """
    rows = _read_rows(data)
    labels, colors = [name for name, _ in rows], [color for _, color in rows]
    for what, values in (("names", labels), ("colours", colors)):
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"expected different {what}, found {twice} twice")
    if strange := [name for name in ignore if name not in labels]:
        raise ValueError(f"folder.ignore: expected names among {', '.join(labels)}, found {', '.join(strange)}")
    names = [name for name in labels if name not in ignore]
    if not 2 <= len(names) <= _UNKNOWN:
        raise ValueError(f"expected 2 to {_UNKNOWN} classes, found {len(names)} ({', '.join(names)})")
    values = np.full(2**24, _UNKNOWN, np.uint8)
    for name, (red, green, blue) in rows:
        values[red << 16 | green << 8 | blue] = IGNORE if name in ignore else names.index(name)
    return Palette(names, np.array(colors), labels, values)


def classes_of_colors(pixels: np.ndarray, palette: Palette) -> np.ndarray:
    """Returns the class of each pixel: uint8 [height, width], 255 = ignore.

    Args:
      pixels: uint8 [height, width, 3], RGB.
      palette: the colours that there are.

    Raises:
      ValueError: a pixel has another colour.
    """
    codes = pixels[:, :, 0].astype(np.int32) << 16
    codes |= pixels[:, :, 1].astype(np.int32) << 8
    codes |= pixels[:, :, 2]
    classes = palette.values[codes]
    if strange := int(np.count_nonzero(classes == _UNKNOWN)):
        found, counts = np.unique(codes[classes == _UNKNOWN], return_counts=True)
        code, count = int(found[counts.argmax()]), int(counts.max())
        color = np.array([code >> 16, code >> 8 & 255, code & 255])
        nearest = int(((palette.colors - color) ** 2).sum(1).argmin())
        raise ValueError(
            f"expected the colours of the table alone, found {strange} pixels of {len(found)} others, such as "
            f"{_rgb(color)} at {count} pixels; the nearest is {palette.labels[nearest]} {_rgb(palette.colors[nearest])}"
        )
    return classes


def _read_rows(data: bytes) -> list[tuple[str, tuple[int, int, int]]]:
    """Returns (name, colour) of each row."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), skipinitialspace=True, strict=True)
        header = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = header
        if missing := [name for name in ("name", "r", "g", "b") if name not in header]:
            raise ValueError(f"expected the columns name, r, g, b, found {', '.join(header)}; missing {missing}")
        rows = []
        for row in reader:
            name, *color = ((row[column] or "").strip() for column in ("name", "r", "g", "b"))
            if not name or not all(value.isascii() and value.isdigit() and int(value) <= 255 for value in color):
                raise ValueError(f"line {reader.line_num}: expected a name and 3 numbers of 0 to 255, found {row}")
            rows.append((name, tuple(map(int, color))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"expected a CSV file in UTF-8: {error}") from error
    return rows


def _rgb(color: np.ndarray) -> str:
    return f"({', '.join(map(str, color.tolist()))})"
