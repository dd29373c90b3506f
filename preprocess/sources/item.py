"""What a raw layout says of one container: an image file, or a volume with its slices."""

import hashlib
from typing import NamedTuple

import numpy as np


class Item(NamedTuple):
    """One raw image or volume with what belongs to it.

    Attributes:
      key: unique in the dataset.
      image: path of the image file or the volume, or None where only a mask was found.
      mask: path of the mask file, of the directory of object masks, or of the table that annotates the image; None
        where unlabelled.
      objects: number of annotated objects where listing the files tells, else None.
      split: "train", "val" or "test" where the raw directories say so, else None.
      error: why this item is of no use, or None.
      annotation: JSON text, where a table annotates the image: what the layout's `read_masks` needs of it.
      slice_index: of an axial slice, 0 = the lowest; None for images, and for a volume as a whole.
      crop: (y, x, height, width) of the window that is wanted, or None for all.
    """

    key: str
    image: str | None
    mask: str | None
    objects: int | None = None
    split: str | None = None
    error: str | None = None
    annotation: str | None = None
    slice_index: int | None = None
    crop: tuple[int, int, int, int] | None = None


class RawImage(NamedTuple):
    """The pixels of one item.

    Attributes:
      pixels: uint8 or uint16 [height, width, 1 or 3].
      sha256: of the file they came from, so that a file that changed since it was indexed is noticed.
      file: the whole image file where it holds exactly these pixels, else None.
      spacing_mm: millimetres between rows, columns and slices, where known.
    """

    pixels: np.ndarray
    sha256: str
    file: bytes | None = None
    spacing_mm: tuple[float, float, float] | None = None


class Masks(NamedTuple):
    """The annotation of one image, at the image's size.

    Attributes:
      classes: [height, width]; exclusive classes: uint8 class indices, 255 = ignore; overlapping classes: uint16 bit
        field, bit k = class k, bit 15 = ignore.
      instances: uint16 [height, width], 0 = none, or None where the layout has no objects.
      objects: number of annotated objects, or None.
      lost_pixels: object pixels hidden beneath other objects.
      warnings: what had to be mended, in words that are the same for all images, such as "JPEG masks thresholded".
    """

    classes: np.ndarray
    instances: np.ndarray | None = None
    objects: int | None = None
    lost_pixels: int = 0
    warnings: tuple[str, ...] = ()


def annotation_hash(annotation: str) -> str:
    """Returns the SHA-256 of an annotation; it stands for the mask files that other layouts have."""
    return hashlib.sha256(annotation.encode()).hexdigest()


def check_size(found: tuple[int, ...], height: int, width: int, path: str) -> None:
    """Raises ValueError unless a mask is as large as its image."""
    if found != (height, width):
        raise ValueError(f"{path}: expected a mask of {height}x{width} like its image, found {found[0]}x{found[1]}")
