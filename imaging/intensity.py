"""Optional contrast transforms of a whole raw image, before it is cut or resized.

Prediction applies the same function to its images, so the result depends on the image alone: no settings, no
statistics of a dataset. Colours change only in luma (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B).
"""

from functools import cached_property

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
    luma = _luma(image)
    if luma.min() == luma.max():
        return image
    if name == "stretch":
        return _stretch(image, luma)
    return _replace_luma(image, luma, _equalize(luma) if name == "equalize" else _clahe(luma))


class CountedIntensity:
    """`transform_intensity` of an image that is never held whole: its luma is counted first, in parts.

    Not for clahe, whose tiles depend on where a pixel lies.
    """

    def __init__(self, name: str, dtype: str):
        """Takes the transform, none, stretch or equalize, and the images' dtype.

        Raises:
          ValueError: it is another.
        """
        if name not in ("none", "stretch", "equalize"):
            raise ValueError(f"expected the intensity none, stretch or equalize for an image in parts, found {name}")
        self._name = name
        self._counts = np.zeros(np.iinfo(dtype).max + 1, np.int64)

    @property
    def counts(self) -> bool:
        """Whether all parts are to be counted before the first is transformed."""
        return self._name != "none"

    def count(self, part: np.ndarray) -> None:
        """Counts the luma of a part, of the image's dtype, [rows, columns, 1 or 3]."""
        self._counts += np.bincount(_luma(part).ravel(), minlength=len(self._counts))

    def transform(self, part: np.ndarray) -> np.ndarray:
        """Returns a part of what `transform_intensity` makes of the image, of the same shape and dtype."""
        if np.count_nonzero(self._counts) < 2:
            return part
        if self._name == "equalize":
            return _replace_luma(part, luma := _luma(part), self._table[luma])
        return part if self._table is None else self._table[part]

    @cached_property
    def _table(self) -> np.ndarray | None:
        dtype = np.uint8 if len(self._counts) == 256 else np.uint16
        if self._name == "equalize":
            return _equal_ranks(self._counts, dtype)
        return _line(*(_percentile(self._counts, share) for share in (0.01, 0.99)), dtype)


def _luma(image: np.ndarray) -> np.ndarray:
    return image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _percentile(counts: np.ndarray, share: float) -> float:
    """Returns what `np.percentile` does of values 0, 1 ... that are there so many times."""
    not_above = np.cumsum(counts)
    place = share * (not_above[-1] - 1)
    low, high = np.searchsorted(not_above, [int(place), min(int(place) + 1, not_above[-1] - 1)], side="right")
    beyond = place - int(place)
    # As NumPy does it, from the nearer of both: a value may lie half-way between two grey levels.
    return low + (high - low) * beyond if beyond < 0.5 else high - (high - low) * (1 - beyond)


def _line(low: float, high: float, dtype) -> np.ndarray | None:
    """Returns for each grey value where stretching takes it; None: there is nothing to stretch."""
    if low == high:
        return None
    largest = np.iinfo(dtype).max
    line = (np.arange(largest + 1) - low) * (largest / (high - low))
    return np.clip(np.rint(line), 0, largest).astype(dtype)


def _stretch(image: np.ndarray, luma: np.ndarray) -> np.ndarray:
    line = _line(*np.percentile(luma, [1, 99]), image.dtype)
    return image if line is None else line[image]


def _equalize(luma: np.ndarray) -> np.ndarray:
    if luma.dtype == np.uint8:
        return cv2.equalizeHist(luma)
    return _equal_ranks(np.bincount(luma.ravel(), minlength=np.iinfo(luma.dtype).max + 1), luma.dtype)[luma]


def _equal_ranks(counts: np.ndarray, dtype) -> np.ndarray:
    """Returns for each grey value where equalising takes it, from how often each is there; OpenCV's formula."""
    largest = np.iinfo(dtype).max
    not_above = np.cumsum(counts)
    darkest = not_above[np.flatnonzero(counts)[0]]
    above, others = np.maximum(not_above - darkest, 0), not_above[-1] - darkest
    if dtype == np.uint8:
        # OpenCV computes in 32 bits, which rounds some values the other way.
        return np.rint(above.astype(np.float32) * (np.float32(largest) / np.float32(others))).astype(dtype)
    return np.rint(above / others * largest).astype(dtype)


def _clahe(luma: np.ndarray) -> np.ndarray:
    return cv2.createCLAHE(clipLimit=2, tileGridSize=(8, 8)).apply(luma)


def _replace_luma(image: np.ndarray, luma: np.ndarray, new_luma: np.ndarray) -> np.ndarray:
    """Returns the image with another luma and the same chroma, clipped to the dtype's range.

    With the chroma R - Y and B - Y kept, each channel moves as far as the luma does. Adding that difference gives what
    a conversion to YCrCb and back would, without its rounding of colours.
    """
    moved = image + (new_luma.astype(np.int32) - luma)[:, :, np.newaxis]
    return np.clip(moved, 0, np.iinfo(image.dtype).max).astype(image.dtype)
