"""The way back: what was predicted for a window of a raw image, at any size, put into the whole image again."""

from collections.abc import Sequence

import numpy as np

from imaging.resize import resize_mask
from imaging.tiling import Window


def restore_mask(parts: Sequence[np.ndarray], windows: Sequence[Window], height: int, width: int) -> np.ndarray:
    """Returns the mask of a raw image, [height, width], from masks of the windows that were cut from it.

    Each part is stretched to its window (nearest neighbour, on the grid on which images are resized); what lies beyond
    the image is left out. Where windows share pixels the first of them counts.

    Args:
      parts: masks of one dtype, [rows, columns] each, of any size.
      windows: of the parts, in pixels of the raw image.
      height, width: of the raw image.

    Raises:
      ValueError: the windows leave some of the image open.
    """
    whole = np.zeros((height, width), parts[0].dtype)
    covered = np.zeros((height, width), bool)
    # Backwards, so that the first one is written last.
    for part, (y, x, rows, columns) in reversed(list(zip(parts, windows, strict=True))):
        inside = (slice(y, y + rows), slice(x, x + columns))
        shape = covered[inside].shape
        whole[inside] = resize_mask(part, rows, columns)[: shape[0], : shape[1]]
        covered[inside] = True
    if not covered.all():
        missing = covered.size - np.count_nonzero(covered)
        raise ValueError(
            f"expected windows that cover the image of {height}x{width}, found {len(windows)} that leave {missing} "
            "pixels open; put the windows of a whole image together"
        )
    return whole
