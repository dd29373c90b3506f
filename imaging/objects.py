"""Many object masks as one instance map."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np


class InstanceMap(NamedTuple):
    """Objects of one image.

    instances: uint16 [height, width], 0 = none, k = the k-th non-empty mask; the smaller on top where they overlap.
    count: number of non-empty masks.
    lost_pixels: mask pixels hidden beneath another object.
    """

    instances: np.ndarray
    count: int
    lost_pixels: int


def merge_objects(masks: Iterable[np.ndarray], height: int, width: int) -> InstanceMap:
    """Merges one mask per object, each uint8 [height, width] with non-zero foreground.

    Raises:
      ValueError: there are more objects than 16 bits can number.
    """
    # Only each object's bounding box is kept: a few kilobytes instead of a full mask per object.
    objects = []
    for mask in masks:
        x, y, box_width, box_height = cv2.boundingRect(mask)
        if box_width:
            window = (slice(y, y + box_height), slice(x, x + box_width))
            inside = mask[window] != 0
            objects.append((len(objects) + 1, int(inside.sum()), window, inside))
    if len(objects) > np.iinfo(np.uint16).max:
        raise ValueError(f"expected at most 65535 objects, found {len(objects)}")
    instances = np.zeros((height, width), np.uint16)
    for number, _, window, inside in sorted(objects, key=lambda item: -item[1]):
        instances[window][inside] = number
    lost = sum(area for _, area, _, _ in objects) - int(np.count_nonzero(instances))
    return InstanceMap(instances, len(objects), lost)
