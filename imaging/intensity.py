"""Optional contrast transforms of a whole raw image, before it is cut or resized.

Prediction applies the same function to its images, so the result depends on the image alone: no settings, no
statistics of a dataset. Colours change only in luma (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B).
"""

import cv2
import numpy as np

INTENSITIES = ("none", "stretch", "equalize", "clahe")


def transform_intensity(image: np.ndarray, name: str) -> np.ndarray:
    """Returns the transformed image, of the same shape and dtype; one whose luma is the same everywhere is unchanged.

    stretch: the 1st and 99th percentile of the luma go to 0 and the dtype's maximum, what lies beyond is clipped. All
      channels follow one line, so hues stay where nothing is clipped.
    equalize: equalisation of the luma's histogram (R. C. Gonzalez and R. E. Woods, Digital Image Processing, 3.3).
      The darkest value goes to 0, as in OpenCV.
    clahe: contrast-limited adaptive equalisation of the luma (K. Zuiderveld, Graphics Gems IV, 1994), 8x8 tiles, clip
      limit 2: no grey value counts more than twice its mean share of a tile, but always one pixel. So contrast grows
      less than threefold; with 16 bits, by up to 1 + 65536 / (pixels of a tile) where that is more.

    Args:
      image: uint8 or uint16 [height, width, 1 or 3], grey or RGB.
      name: one of INTENSITIES; "none" returns the image itself.
    """
    if name not in INTENSITIES:
        raise ValueError(f"expected an intensity among {', '.join(INTENSITIES)}, found {name!r}")
    if name == "none":
        return image
    luma = image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if luma.min() == luma.max():
        return image
    if name == "stretch":
        return _stretch(image, luma)
    return _replace_luma(image, luma, _equalize(luma) if name == "equalize" else _clahe(luma))


def _stretch(image: np.ndarray, luma: np.ndarray) -> np.ndarray:
    low, high = np.percentile(luma, [1, 99])
    if low == high:
        return image
    largest = np.iinfo(image.dtype).max
    line = (np.arange(largest + 1) - low) * (largest / (high - low))
    return np.clip(np.rint(line), 0, largest).astype(image.dtype)[image]


def _equalize(luma: np.ndarray) -> np.ndarray:
    if luma.dtype == np.uint8:
        return cv2.equalizeHist(luma)
    # OpenCV equalises 8 bits only; this is its formula.
    largest = np.iinfo(luma.dtype).max
    not_above = np.cumsum(np.bincount(luma.ravel(), minlength=largest + 1))
    darkest = not_above[luma.min()]
    ranks = np.maximum(not_above - darkest, 0) / (luma.size - darkest)
    return np.rint(ranks * largest).astype(luma.dtype)[luma]


def _clahe(luma: np.ndarray) -> np.ndarray:
    return cv2.createCLAHE(clipLimit=2, tileGridSize=(8, 8)).apply(luma)


def _replace_luma(image: np.ndarray, luma: np.ndarray, new_luma: np.ndarray) -> np.ndarray:
    """Returns the image with another luma and the same chroma, clipped to the dtype's range.

    With the chroma R - Y and B - Y kept, each channel moves as far as the luma does. Adding that difference gives what
    a conversion to YCrCb and back would, without its rounding of colours.
    """
    moved = image + (new_luma.astype(np.int32) - luma)[:, :, np.newaxis]
    return np.clip(moved, 0, np.iinfo(image.dtype).max).astype(image.dtype)
