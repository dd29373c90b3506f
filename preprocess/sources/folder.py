"""Any `images/` with a `masks/` beside it, paired by stem.

Found anywhere beneath the root, with train/, val/ and test/ above or beneath (`train/images/a.png` or
`images/train/a.png`); these then are the splits. Masks are binary, class indices, or palette PNGs.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from imaging.codec import SUFFIXES, decode_mask
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.item import Item, Masks, check_size
from records.schema import IGNORE

CLASSES = ["background", "object"]
ARCHIVE = None

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]:
    """Yields an item for every image, and one with an error for every mask that has none.

    Raises:
      ValueError: two images, or two masks, share a stem.
    """
    layout = config.folder
    images: dict[str, str] = {}
    masks: dict[str, str] = {}
    for path in files.walk():
        if path.lower().endswith(SUFFIXES):
            for found, directory, suffix in (
                (images, layout.images_dir, layout.image_suffix),
                (masks, layout.masks_dir, layout.mask_suffix),
            ):
                key = _key(path, directory, suffix)
                if key is None:
                    continue
                if key in found:
                    raise ValueError(f"two files for the key {key!r}: {found[key]} and {path}; rename one of them")
                found[key] = path
    for key, path in images.items():
        yield Item(key, path, masks.get(key), split=_split(key))
    for key in sorted(masks.keys() - images.keys()) if not config.unlabeled else []:
        hint = f"{masks[key]}: no image of that stem in {layout.images_dir}/ (--folder.mask_suffix removes a suffix)"
        yield Item(key, None, masks[key], split=_split(key), error=hint)


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the class mask of one image."""
    try:
        mask = decode_mask(files.read(item.mask))
    except ValueError as error:
        raise ValueError(f"{item.mask}: {error}") from error
    check_size(mask.shape, height, width, item.mask)
    values = np.unique(mask).tolist()
    if config.classes is not None:
        known = len(config.classes)
        if strange := [value for value in values if value >= known and value != IGNORE]:
            raise ValueError(
                f"{item.mask}: expected mask values 0 to {known - 1} ({', '.join(config.classes)}) or "
                f"{IGNORE} (ignore), found {strange}"
            )
        return Masks(mask.astype(np.uint8))
    foreground = [value for value in values if value]
    full = np.iinfo(mask.dtype).max  # 65535 in a 16-bit mask
    if len(foreground) > 1 or not set(foreground) <= {1, 255, full}:
        raise ValueError(
            f"{item.mask}: expected a binary mask (0 and 1, or 0 and {full}), found the values {values}; "
            "name the classes with --classes"
        )
    return Masks((mask > 0).astype(np.uint8))


def _key(path: str, directory: str, suffix: str) -> str | None:
    """Returns the path without the directory, suffix and extension; None if it lies elsewhere or lacks the suffix."""
    parts = PurePosixPath(path)
    stem = parts.stem
    if directory not in parts.parts[:-1] or not stem.endswith(suffix):
        return None
    folders = list(parts.parts[:-1])
    folders.remove(directory)
    return "/".join([*folders, stem.removesuffix(suffix)])


def _split(key: str) -> str | None:
    return next((_SPLITS[part.lower()] for part in key.split("/")[:-1] if part.lower() in _SPLITS), None)
