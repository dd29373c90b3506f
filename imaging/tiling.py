"""Square windows that cover an image."""

from typing import NamedTuple

import numpy as np

MOST_TILES = 1_000_000


class Window(NamedTuple):
    """A rectangle in pixels of the raw image; it reaches beyond the image where that is smaller than the tile."""

    y: int
    x: int
    height: int
    width: int


def tile_windows(height: int, width: int, size: int, overlap: int) -> list[Window]:
    """Returns the windows of size x size pixels that cover an image, row by row, none twice.

    Neighbours share at least `overlap` pixels: the last window of a row or column is moved back to end at the image's
    edge, and shares more. Along an axis shorter than `size` there is one window, which reaches beyond the image.

    Raises:
      ValueError: the overlap is negative, or not smaller than the size.
    """
    count = count_tiles(height, width, size, overlap)
    if count > MOST_TILES:
        raise ValueError(
            f"expected at most {MOST_TILES} tiles of an image, found {count} of {size}x{size} for {height}x{width}; "
            "choose larger tiles or a smaller overlap"
        )
    rows, columns = _starts(height, size, overlap), _starts(width, size, overlap)
    return [Window(y, x, size, size) for y in rows for x in columns]


def count_tiles(height, width, size: int, overlap: int):
    """Returns how many windows `tile_windows` gives; heights and widths may be integer arrays of one shape.

    Raises:
      ValueError: as `tile_windows` does.
    """
    counts = _count(height, size, overlap) * _count(width, size, overlap)
    return counts if counts.ndim else int(counts)


def cut(pixels: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """Returns the window's pixels, [window.height, window.width(, channels)], contiguous, of the same dtype.

    It may be a view. What lies outside the image is `fill`.
    """
    inside = pixels[window.y : window.y + window.height, window.x : window.x + window.width]
    if inside.shape[:2] == (window.height, window.width):
        return np.ascontiguousarray(inside)
    tile = np.full((window.height, window.width, *pixels.shape[2:]), fill, pixels.dtype)
    tile[: inside.shape[0], : inside.shape[1]] = inside
    return tile


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(length - size, 0)
    return [min(index * (size - overlap), last) for index in range(int(_count(length, size, overlap)))]


def _count(length, size: int, overlap: int) -> np.ndarray:
    """Returns the number of windows along an axis, int64, of the shape of `length`."""
    if not 0 <= overlap < size:
        raise ValueError(f"expected an overlap from 0 to below the tile size of {size} pixels, found {overlap}")
    # Lengths from a table may be unsigned, and would wrap around below 0.
    beyond_first = np.maximum(np.asarray(length, np.int64) - size, 0)
    return 1 - (-beyond_first // (size - overlap))
