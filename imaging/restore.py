"""The way back: what was predicted for windows of an image, at any size, put together again."""

import itertools
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from imaging.resize import resize_image
from imaging.tiling import Window

_SIGMA = 1 / 8
"""Of the weights, in sides of a window."""

_LEAST_WEIGHT = 1e-3
"""Of the centre's: where one window alone covers a pixel, its weight must not vanish."""


class Restored:
    """Probabilities of an image, from those of windows that cover it.

    Where windows share pixels, it is their mean, weighted by a Gaussian around each window's centre: a network knows
    least at the edge of what it sees (Isensee et al. 2021, nnU-Net, whose sigma this is). So where all windows agree
    there is no seam.
    """

    def __init__(self, height: int, width: int, outputs: int):
        """Takes the size of the image, and how many probabilities a pixel has."""
        # In float64: else what all windows agree on comes out a little more or less, and a threshold may lie there.
        self._sums = np.zeros((height, width, outputs))
        self._weights = np.zeros((height, width, 1))

    def add(self, part: np.ndarray, window: Window) -> None:
        """Puts a part in its place.

        Args:
          part: float32 [rows, columns, outputs], of any size; it is stretched to its window.
          window: in pixels of the image; what reaches beyond the image is left out.
        """
        y, x, rows, columns = window
        inside = (slice(y, y + rows), slice(x, x + columns))
        height, width = self._weights[inside].shape[:2]
        weights = _gaussian(rows, columns)[:height, :width]
        self._sums[inside] += weights * resize_image(part, rows, columns)[:height, :width]
        self._weights[inside] += weights

    def finish(self, empty: np.ndarray | None = None, rows: int | None = None) -> np.ndarray:
        """Returns the probabilities, float32 [height, width, outputs].

        Args:
          empty: float32 [outputs], of pixels that no window covers; None: there must be none.
          rows: how many, from the top; None: all.

        Raises:
          ValueError: the windows leave some of the image open.
        """
        sums, weights = self._sums[:rows], self._weights[:rows]
        covered = weights > 0
        if covered.all():
            return (sums / weights).astype(np.float32)
        if empty is None:
            height, width = covered.shape[:2]
            raise ValueError(
                f"expected windows that cover the image of {height}x{width}, found some that leave "
                f"{covered.size - np.count_nonzero(covered)} pixels open; put the windows of a whole image together"
            )
        return np.where(covered, sums / np.where(covered, weights, 1), empty).astype(np.float32)

    def move_up(self, rows: int) -> None:
        """Forgets the uppermost rows; what lies below moves up in their place, and leaves as many open at the end."""
        for array in (self._sums, self._weights):
            array[: len(array) - rows] = array[rows:]
            array[len(array) - rows :] = 0


def restore_rows(
    parts: Iterable[tuple[np.ndarray | None, Window]], height: int, width: int, outputs: int, empty: np.ndarray
) -> Iterator[np.ndarray]:
    """Yields what `Restored` gives of an image, float32 [rows, width, outputs], from the top down.

    Only as many rows are held as a window is high: what lies above a window is finished when it comes.

    Args:
      parts: as for `Restored.add`, in the order of `tile_windows`; windows are of one height, and end within the image.
        None stands for a part that says nothing.
      height, width: of the image.
      outputs: probabilities of a pixel.
      empty: float32 [outputs], of pixels that no part covers.
    """
    held, top = None, 0
    for y, of_row in itertools.groupby(parts, key=lambda part: part[1].y):
        for part, window in of_row:
            if held is None:
                held = Restored(window.height, width, outputs)
            if y > top:
                yield held.finish(empty, y - top)
                held.move_up(y - top)
                top = y
            if part is not None:
                held.add(part, window._replace(y=0))
    if held is not None:
        yield held.finish(empty, height - top)


def restore_mask(parts: Iterable[tuple[np.ndarray, Window]], height: int, width: int) -> np.ndarray:
    """Returns a mask [height, width] from parts of it [rows, columns] and their windows, which agree where they share.

    What of a part reaches beyond its window is left out.
    """
    whole = None
    for part, (y, x, rows, columns) in parts:
        whole = np.zeros((height, width), part.dtype) if whole is None else whole
        whole[y : y + rows, x : x + columns] = part[:rows, :columns]
    return whole


@lru_cache(maxsize=8)
def _gaussian(height: int, width: int) -> np.ndarray:
    """Returns weights float64 [height, width, 1], 1 at the centre."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side * _SIGMA)) ** 2) for side in (height, width)
    )
    return np.maximum(np.outer(rows, columns), _LEAST_WEIGHT)[..., None]
