"""Rows of pixels on the disk, for images of which memory holds a few strips only."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

STRIP_ROWS = 256
"""Rows at once: those of the tiles in which TIFFs are written, so that each of these is written once."""


class RowFile:
    """Pixels [height, width] of an unnamed file, which goes with the context. Rows not yet written are undefined."""

    def __init__(self, folder: Path, height: int, width: int, dtype, strip_rows: int = STRIP_ROWS):
        """Takes the folder on whose disk the file lies, and what it holds."""
        self.folder, self.height, self.width, self.strip_rows = folder, height, width, strip_rows
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, y: int, rows: np.ndarray) -> None:
        """Writes rows [rows, width] at a place."""
        self._file.seek(y * self.width * self._dtype.itemsize)
        self._file.write(np.ascontiguousarray(rows, self._dtype))

    def read(self, y: int, rows: int) -> np.ndarray:
        """Returns rows [rows, width]."""
        self._file.seek(y * self.width * self._dtype.itemsize)
        data = self._file.read(rows * self.width * self._dtype.itemsize)
        return np.frombuffer(data, self._dtype).reshape(rows, self.width)

    def strips(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first row, rows) from the top; those that have been yielded may be written anew."""
        for y in range(0, self.height, self.strip_rows):
            yield y, self.read(y, min(self.strip_rows, self.height - y))


def even_strips(strips: Iterable[np.ndarray], rows: int = STRIP_ROWS) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, strip) of strips [any, ...] one below the other, cut anew: all but the last have `rows`."""
    y, waiting, count = 0, [], 0
    for strip in strips:
        waiting.append(strip)
        count += len(strip)
        if count < rows:
            continue
        joined = np.concatenate(waiting)
        whole = count - count % rows
        for start in range(0, whole, rows):
            yield y, joined[start : start + rows]
            y += rows
        waiting, count = [joined[whole:]], count - whole
    if count:
        yield y, np.concatenate(waiting)
