"""COCO's three ways to write down the shape of an object: polygons, run-length code, compressed run-length code.

Format: https://cocodataset.org/#format-data. Runs alternate between 0 and 1, column by column, beginning with 0. The
C code of pycocotools trusts what it is given, so everything is checked before it gets there.
"""

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Returns uint8 [height, width] in {0, 1}.

    Raises:
      ValueError: it is none of the three, or of another size.
    """
    return coco_mask.decode(_runs(segmentation, height, width))


def count_pixels(segmentation: Any, height: int, width: int) -> int:
    """Returns the number of pixels, without making the mask.

    Raises:
      ValueError: as `decode_segmentation` does.
    """
    return int(coco_mask.area(_runs(segmentation, height, width)))


def _runs(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Returns pycocotools' own form of a checked segmentation."""
    if isinstance(segmentation, list):
        if not segmentation:
            raise ValueError("expected polygons or run-length code, found none")
        for polygon in segmentation:
            _check_polygon(polygon, height, width)
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"expected polygons or run-length code, found {_short(segmentation)}")
    if segmentation["size"] != [height, width]:
        raise ValueError(f"expected run-length code of size {[height, width]}, found {_short(segmentation['size'])}")
    counts = segmentation["counts"]
    counts = _uncompress(counts) if isinstance(counts, str) else counts
    if not isinstance(counts, list) or any(type(count) is not int or count < 0 for count in counts):
        raise ValueError(f"expected counts of pixels, found {_short(counts)}")
    if sum(counts) != height * width:
        raise ValueError(f"expected counts that add up to {height * width} pixels, found {sum(counts)}")
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    if not isinstance(polygon, list) or any(type(value) not in (int, float) for value in polygon):
        raise ValueError(f"expected a polygon, a list of numbers x, y, x, y, ..., found {_short(polygon)}")
    if len(polygon) % 2 or len(polygon) < 6:
        raise ValueError(f"expected a polygon of at least 3 points, found {len(polygon)} coordinates")
    # A little outside is common; far outside, pycocotools would ask for memory without end.
    for values, size in ((polygon[0::2], width), (polygon[1::2], height)):
        for value in values:
            if not (math.isfinite(value) and -size <= value <= 2 * size):
                raise ValueError(f"expected a polygon in an image of {height}x{width}, found the coordinate {value}")


def _uncompress(text: str) -> list[int]:
    """Returns the counts of a compressed code.

    Each is in groups of 5 bits, the lowest first, one character a group; from the fourth on, it is the difference to
    the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for position, letter in enumerate(text):
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 40:
            raise ValueError(f"expected compressed run-length code, found {letter!r} at position {position}")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:  # the last group
            if code & 16:  # negative
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("expected compressed run-length code, found one that is cut off")
    return counts


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
