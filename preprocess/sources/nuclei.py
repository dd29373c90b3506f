"""2018 Data Science Bowl: `<id>/images/<id>.png` and `<id>/masks/*.png`, one PNG per nucleus.

Layout: https://www.kaggle.com/competitions/data-science-bowl-2018/data. Directories may lie above the ids.
"""

from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np

from imaging.codec import SUFFIXES, decode_mask
from imaging.objects import merge_objects
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.classes import one_kind
from preprocess.sources.item import Item, Masks, check_size


def find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]:
    """Yields an item for every `<id>/images/` that holds an image."""
    images: dict[str, list[str]] = {}
    masks: Counter[str] = Counter()
    for path in files.walk():
        if not path.lower().endswith(SUFFIXES):
            continue
        folder, _, _ = path.rpartition("/")
        parent, _, kind = folder.rpartition("/")
        if kind == "images":
            images.setdefault(parent, []).append(path)
        elif kind == "masks":
            masks[parent] += 1
    for parent, paths in images.items():
        error = None if len(paths) == 1 else f"{parent}/images: expected one image, found {len(paths)}"
        yield Item(
            key=parent.rpartition("/")[2],
            image=paths[0],
            mask=f"{parent}/masks" if masks[parent] else None,
            objects=masks[parent],
            error=error,
        )
    for parent in sorted(masks.keys() - images.keys()) if not config.unlabeled else []:
        key = parent.rpartition("/")[2]
        yield Item(key, None, f"{parent}/masks", error=f"{parent}: masks without an image")


def class_names(files: RawFiles, config: PreprocessConfig) -> list[str]:
    """Returns background and nucleus, or the two names of --classes."""
    return one_kind(["background", "nucleus"], config)


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the nuclei of one image merged into one class and one instance map."""
    paths = [path for path in files.list_directory(item.mask) if path.lower().endswith(SUFFIXES)]
    if len(paths) != item.objects:
        raise ValueError(f"{item.mask}: expected {item.objects} mask files, found {len(paths)} (a link to nothing?)")

    def object_masks() -> Iterator[np.ndarray]:
        for path in paths:
            try:
                mask = decode_mask(files.read(path))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            check_size(mask.shape, height, width, path)
            # Equal values add up to their number times the highest; this is quicker than comparing each.
            if cv2.sumElems(mask)[0] != cv2.countNonZero(mask) * int(mask.max()):
                raise ValueError(
                    f"{path}: expected one object of one value, found the values {np.unique(mask)[:5].tolist()}, …: a "
                    "blurred mask, a JPEG, or several objects in one file; give each object a PNG of 0 and 255"
                )
            # A 16-bit mask may hold 256, which is 0 in 8 bits.
            yield mask if mask.dtype == np.uint8 else (mask != 0).astype(np.uint8)

    merged = merge_objects(object_masks(), height, width)
    return Masks((merged.instances > 0).astype(np.uint8), merged.instances, merged.count, merged.lost_pixels)
