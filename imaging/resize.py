"""Resizing of images and masks on one pixel grid.

Both filters are centre-aligned, so a mask stays on its image: OpenCV's INTER_NEAREST is not (it takes the
upper left pixel of each block), INTER_NEAREST_EXACT is.
"""

import cv2
import numpy as np


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns [height, width, channels] of the same dtype: area filter along a shrinking axis, else bilinear."""
    for shape in ((height, image.shape[1]), (height, width)):
        if shape != image.shape[:2]:
            shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
            filter_ = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            channels = image.shape[2]
            image = cv2.resize(image, shape[::-1], interpolation=filter_).reshape(*shape, channels)
    return image


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the mask at [height, width], every pixel a value of the mask (nearest neighbour)."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
