"""Objects and areas: many object masks as one instance map, and the objects of an area."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from skimage.feature import peak_local_max
from skimage.segmentation import watershed


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


def label_objects(area: np.ndarray, split: int = 0) -> np.ndarray:
    """Returns int32 [height, width]: 0 outside the area, 1, 2 ... in its objects.

    Objects are the connected parts (8 neighbours). Those that touch are told apart, if so wished, by a watershed of the
    distance to the edge (Beucher and Lantuejoul 1979): round objects have one peak each.

    Args:
      area: bool [height, width].
      split: least distance in pixels between the centres of objects that touch; 0: they stay one.
    """
    parts = cv2.connectedComponents(area.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)[1]
    if not split or not area.any():
        return parts
    # What lies beyond the image is outside: an object that it cuts is as deep there as it looks.
    distance = cv2.distanceTransform(np.pad(area.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    peaks = peak_local_max(distance, min_distance=split, threshold_abs=0, labels=parts, exclude_border=False)
    markers = np.zeros(area.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, markers, mask=area, connectivity=2).astype(np.int32)
