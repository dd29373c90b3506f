"""Pixels of one kind made of those of another: grey, colours, 8 and 16 bits."""

import cv2
import numpy as np


def match_pixels(image: np.ndarray, channels: int, dtype: str) -> np.ndarray:
    """Returns the image with these channels and this dtype; the same array if it has them.

    Grey becomes three equal channels; colours become their luma (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B). 255 of 8
    bits becomes 65535 of 16, and back, rounded.

    Args:
      image: uint8 or uint16 [height, width, 1 or 3].
      channels: 1 or 3.
      dtype: "uint8" or "uint16".
    """
    if image.shape[2] < channels:
        image = np.repeat(image, channels, axis=2)
    elif image.shape[2] > channels:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, np.newaxis]
    if image.dtype == dtype:
        return image
    if dtype == "uint16":
        return image.astype(np.uint16) * 257
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
