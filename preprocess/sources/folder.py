"""Any `images/` with a `masks/` beside it, paired by stem.

Found anywhere beneath the root, with train/, val/ and test/ above or beneath (`train/images/a.png` or
`images/train/a.png`); these then are the splits. Masks are binary (where the object is 0, as in some palette PNGs,
--folder.invert swaps them), class indices (of grey or palette images), or pictures in the colours of a table.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from imaging.codec import SUFFIXES, decode_colors, decode_mask, image_format
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.classes import refuse_bits
from preprocess.sources.colors import Palette, classes_of_colors, parse_palette
from preprocess.sources.item import Item, Masks, check_size
from records.schema import IGNORE

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


def class_names(files: RawFiles, config: PreprocessConfig) -> list[str]:
    """Returns the names by mask value: those of --classes, of the table of colours, or background and object.

    Raises:
      ValueError: settings exclude each other, or the table of colours is not as expected.
    """
    refuse_bits(config)
    layout = config.folder
    if layout.colors is not None and config.classes is not None:
        raise ValueError("classes, folder.colors: choose one; the table of colours names the classes")
    if layout.invert and (layout.colors is not None or config.classes is not None):
        raise ValueError("folder.invert: expected binary masks, found classes by --classes or --folder.colors")
    if layout.colors is not None:
        return _palette(files, config).names
    _ignored_values(config)
    if config.classes is None:
        return ["background", "object"]
    if len(config.classes) < 2:
        raise ValueError(f"classes: expected at least 2 names, the first for value 0, found {config.classes}")
    return config.classes


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the class mask of one image."""
    palette = None if config.folder.colors is None else _palette(files, config)
    try:
        masks = _decode(files.read(item.mask), palette, config)
    except ValueError as error:
        raise ValueError(f"{item.mask}: {error}") from error
    check_size(masks.classes.shape, height, width, item.mask)
    return masks


def file_settings(files: RawFiles, config: PreprocessConfig) -> dict:
    """Returns the colours of folder.colors by name."""
    if config.folder.colors is None:
        return {}
    palette = _palette(files, config)
    return {"colors": dict(zip(palette.labels, palette.colors.tolist(), strict=True))}


def _decode(data: bytes, palette: Palette | None, config: PreprocessConfig) -> Masks:
    """Returns what a mask file says, as its colours, its labels or its two values."""
    is_jpeg = image_format(data) == "jpeg"
    if is_jpeg and (palette or config.classes):
        raise ValueError("expected class labels, found a JPEG, which blurs them; store masks as PNG")
    if palette:
        return Masks(classes_of_colors(decode_colors(data), palette))
    if config.classes is not None:
        return Masks(_labels(decode_mask(data), config))
    if is_jpeg:
        return Masks(_binary(_threshold(decode_mask(data)), config), warnings=("JPEG masks thresholded at 128",))
    return Masks(_binary(decode_mask(data), config))


def _labels(mask: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Returns a mask of class indices: uint8, 255 = ignore."""
    known = len(config.classes)
    ignored = sorted({*_ignored_values(config), IGNORE})
    if strange := [value for value in _values(mask) if value >= known and value not in ignored]:
        raise ValueError(
            f"expected mask values 0 to {known - 1} ({', '.join(config.classes)}) or "
            f"{', '.join(map(str, ignored))} (ignore), found {strange}"
        )
    return _with_ignored(mask.astype(np.uint8), mask, config)


def _binary(mask: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Returns a mask of one kind of object: uint8 in {0, 1}, 255 = ignore."""
    values = _values(mask)
    foreground = {value for value in values if value} - set(_ignored_values(config))
    full = np.iinfo(mask.dtype).max  # 65535 in a 16-bit mask
    if len(foreground) > 1 or not foreground <= {1, 255, full}:
        raise ValueError(
            f"expected a binary mask (0 and 1, or 0 and {full}), found the values {values}; "
            "name the classes with --classes"
        )
    objects = (mask == 0) if config.folder.invert else (mask > 0)
    return _with_ignored(objects.astype(np.uint8), mask, config)


def _threshold(mask: np.ndarray) -> np.ndarray:
    """Returns a JPEG's mask in {0, 255}: what was dark or bright before it was compressed."""
    if 0 < mask.max() < 128 or np.count_nonzero((mask > 64) & (mask < 192)) > mask.size // 4:
        raise ValueError(
            "expected a JPEG mask of dark and bright pixels (0 and 255), found values in between; store masks as PNG"
        )
    return np.where(mask < 128, 0, 255).astype(np.uint8)


def _with_ignored(classes: np.ndarray, mask: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Returns the classes, 255 where the mask has a value of folder.ignore."""
    for value in _ignored_values(config):
        classes[mask == value] = IGNORE
    return classes


def _values(mask: np.ndarray) -> list[int]:
    """Returns the values in a mask, lowest first; OpenCV counts them without the copy that NumPy makes."""
    bins = np.iinfo(mask.dtype).max + 1
    return np.flatnonzero(cv2.calcHist([mask], [0], None, [bins], [0, bins])).tolist()


def _ignored_values(config: PreprocessConfig) -> list[int]:
    """Returns folder.ignore as numbers."""
    values = list(map(str, config.folder.ignore))
    for value in values:
        if not (value.isascii() and value.isdigit() and int(value) <= 65535):
            raise ValueError(
                f"folder.ignore: expected mask values of 0 to 65535 (names only with --folder.colors), found {value!r}"
            )
    return list(map(int, values))


def _palette(files: RawFiles, config: PreprocessConfig) -> Palette:
    """Returns the palette of folder.colors, a path in the raw dataset or on disk."""
    path = config.folder.colors
    try:
        data = files.read(path)
    except ValueError:
        if not Path(path).is_file():
            raise ValueError(
                f"folder.colors: expected the CSV file {path} in {files.root} or on disk, found it in neither"
            ) from None
        data = Path(path).read_bytes()
    try:
        return parse_palette(data, tuple(map(str, config.folder.ignore)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
