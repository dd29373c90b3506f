"""What a raw layout says of one image."""

from typing import NamedTuple

import numpy as np


class Item(NamedTuple):
    """One raw image with what belongs to it.

    Attributes:
      key: unique in the dataset.
      image: path of the image file, or None where only a mask was found.
      mask: path of the mask file, or of the directory of object masks; None where unlabelled.
      objects: number of annotated objects where listing the files tells, else None.
      split: "train", "val" or "test" where the raw directories say so, else None.
      error: why this item is of no use, or None.
    """

    key: str
    image: str | None
    mask: str | None
    objects: int | None = None
    split: str | None = None
    error: str | None = None


class Masks(NamedTuple):
    """The annotation of one image, at the image's size.

    Attributes:
      classes: uint8 [height, width], class indices, 255 = ignore.
      instances: uint16 [height, width], 0 = none, or None where the layout has no objects.
      objects: number of annotated objects, or None.
      lost_pixels: object pixels hidden beneath other objects.
    """

    classes: np.ndarray
    instances: np.ndarray | None = None
    objects: int | None = None
    lost_pixels: int = 0


def check_size(found: tuple[int, ...], height: int, width: int, path: str) -> None:
    """Raises ValueError unless a mask is as large as its image."""
    if found != (height, width):
        raise ValueError(f"{path}: expected a mask of {height}x{width} like its image, found {found[0]}x{found[1]}")
