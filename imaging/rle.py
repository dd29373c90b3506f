"""Kaggle's run-length code of masks (Airbus Ship Detection, Understanding Clouds): "start length start length …".

Pixels are numbered from 1, down the first column, then down the second. Other codes number from 0 (COCO) or row by
row; read as this one they give a mask that is shifted or transposed, not an error.
"""

from typing import NamedTuple

import numpy as np


class Runs(NamedTuple):
    """Runs of foreground pixels, in the order of the text: they may overlap and need not be sorted.

    starts: int64, 0-based offset of each run's first pixel, column by column. lengths: int64, pixels, at least 1.
    """

    starts: np.ndarray
    lengths: np.ndarray


def parse_rle(text: str, height: int, width: int) -> Runs:
    """Returns the runs of a mask of height x width pixels; an empty text has none.

    Raises:
      ValueError: the text is not pairs of whole numbers, or a run does not lie inside the mask.
    """
    # Checked before NumPy reads it, which stops at the first character that is not part of a number.
    if not (text.isascii() and text.replace(" ", "").isdigit()):
        text = _check_words(text)
    numbers = np.fromstring(text, np.int64, sep=" ") if text else np.empty(0, np.int64)
    if len(numbers) % 2:
        raise ValueError(
            f"expected run-length code in pairs of start and length, found {len(numbers)} numbers, "
            f"the last is {text.split()[-1]!r} without its length"
        )
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    # Numbers beyond 64 bits arrive as the largest int64, so nothing is added to them here.
    bad = (starts < 0) | (lengths < 1) | (lengths > height * width - starts)
    if bad.any():
        index = int(np.argmax(bad))
        start, length = text.split()[2 * index : 2 * index + 2]
        expected = f"runs inside the {height * width} pixels of height {height} x width {width}"
        if starts[index] < 0:
            expected = "pixels numbered from 1"
        elif lengths[index] < 1:
            expected = "runs of at least 1 pixel"
        raise ValueError(f"expected {expected}, found run {index + 1} (start {start[:40]}, length {length[:40]})")
    return Runs(starts, lengths)


def decode_rle(text: str, height: int, width: int) -> np.ndarray:
    """Returns the mask of a run-length code: uint8 [height, width] in {0, 1}.

    Raises:
      ValueError: as `parse_rle` does.
    """
    runs = parse_rle(text, height, width)
    columns = np.zeros(height * width, np.uint8)
    for start, length in zip(runs.starts.tolist(), runs.lengths.tolist(), strict=True):
        columns[start : start + length] = 1
    return np.ascontiguousarray(columns.reshape(width, height).T)


def encode_rle(mask: np.ndarray) -> str:
    """Returns the run-length code of a mask [height, width], non-zero is foreground; "" if it is empty.

    The runs are sorted and as few as possible: one that reaches the end of a column goes on in the next.
    """
    padded = np.zeros(mask.size + 2, bool)
    padded[1:-1] = (mask != 0).ravel(order="F")
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, ends = edges[0::2], edges[1::2]
    return " ".join(map(str, np.stack([starts + 1, ends - starts], axis=1).ravel().tolist()))


def encode_objects(instances: np.ndarray) -> list[str]:
    """Returns the run-length code of every object of an instance map, in the order of their numbers.

    Args:
      instances: integers [height, width], 0 = none; numbers may be missing.
    """
    # One pass over the map, however many objects it holds.
    columns = instances.ravel(order="F")
    starts = np.flatnonzero(np.concatenate([[True], columns[1:] != columns[:-1]]))
    lengths = np.diff(starts, append=columns.size)
    numbers = columns[starts]
    order = np.argsort(numbers, kind="stable")
    runs = np.stack([starts + 1, lengths], axis=1)[order]
    found, begins = np.unique(numbers[order], return_index=True)
    parts = np.split(runs, begins[1:])
    return [" ".join(map(str, part.ravel().tolist())) for number, part in zip(found, parts, strict=True) if number]


def count_rle_pixels(text: str, height: int, width: int) -> int:
    """Returns the number of foreground pixels; those that several runs cover count once.

    Raises:
      ValueError: as `parse_rle` does.
    """
    starts, lengths = parse_rle(text, height, width)
    order = np.argsort(starts)
    starts, ends = starts[order], (starts + lengths)[order]
    # In order of their starts, a run adds what lies beyond the furthest end before it.
    covered = np.maximum.accumulate(ends)
    starts[1:] = np.maximum(starts[1:], covered[:-1])
    return int(np.maximum(ends - starts, 0).sum())


def _check_words(text: str) -> str:
    """Returns the text with one space between words, all of which are whole numbers."""
    words = text.split()
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise ValueError(f"expected run-length code of whole numbers, found {word[:40]!r}")
    return " ".join(words)
