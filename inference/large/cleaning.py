"""What `clean_mask` does to a mask in memory, to one on the disk: the same pixels."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from imaging.parts import find_parts
from inference.large.rows import RowFile
from inference.postprocess import Postprocess, Steps, class_area, merge_area


def clean_rows(mask: RowFile, postprocess: Postprocess, overlapping: bool) -> None:
    """Cleans a predicted mask in its place, see `clean_mask`.

    Of several parts that are largest, the uppermost is kept.

    Args:
      mask: uint8 class indices or, if overlapping, uint16 bit fields.
      postprocess: steps by class, in pixels of this image.
      overlapping: whether masks are bit fields.
    """
    for number, steps in postprocess.items():
        if not steps.cleans:
            continue
        with RowFile(mask.folder, mask.height, mask.width, bool, mask.strip_rows) as area:
            _open_and_close(mask, area, number, steps, overlapping)
            if steps.fill_holes:
                _fill_holes(area)
            if steps.min_size > 1 or steps.largest:
                _leave_out(area, steps)
            for y, rows in mask.strips():
                mask.write(y, merge_area(rows, area.read(y, len(rows)), number, overlapping))


def _open_and_close(mask: RowFile, area: RowFile, number: int, steps: Steps, overlapping: bool) -> None:
    """Writes the area of a class, opened and closed."""
    steps = dataclasses.replace(steps, fill_holes=False, min_size=0, largest=False)
    margin = 2 * (steps.opening + steps.closing)  # how far away what a pixel becomes may be decided
    for y, rows in mask.strips():
        first, last = max(0, y - margin), min(mask.height, y + len(rows) + margin)
        found = steps.clean(class_area(mask.read(first, last - first), number, overlapping))
        area.write(y, found[y - first :][: len(rows)])


def _fill_holes(area: RowFile) -> None:
    def outside() -> Iterator[np.ndarray]:
        return (~rows for _, rows in area.strips())

    parts = find_parts(outside(), 4)
    for (y, rows), holes in zip(area.strips(), parts.keep(outside(), ~parts.at_edge), strict=True):
        area.write(y, rows | holes)


def _leave_out(area: RowFile, steps: Steps) -> None:
    def inside() -> Iterator[np.ndarray]:
        return (rows for _, rows in area.strips())

    parts = find_parts(inside(), 8)
    kept = parts.sizes >= steps.min_size
    if steps.largest and len(kept):
        kept &= np.arange(len(kept)) == parts.sizes.argmax()
    for (y, _), rows in zip(area.strips(), parts.keep(inside(), kept), strict=True):
        area.write(y, rows)
