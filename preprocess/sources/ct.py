"""CT scans and masks as NIfTI volumes, each axial slice an example, each scan a group.

With a metadata.csv (columns ct_scan and masks, as in Kaggle's COVID-19 CT scans; only the last parts of its paths
count), or else paired by directory and name: a mask belongs to the scan whose name has all the words of its own.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from imaging.volume import Geometry, axial_slice, check_same_grid, read_mask, read_scan
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources.classes import refuse_bits
from preprocess.sources.item import Item, Masks, RawImage, check_size
from preprocess.sources.volume_pairs import Pair, find_pairs, mask_name, stem

# The masks of Kaggle's COVID-19 CT scans. Its lung_mask tells left (1) from right (2), which hardly anyone wants.
_KNOWN_CLASSES = {
    "lung_mask": ["background", "lung"],
    "infection_mask": ["background", "infection"],
    "lung_and_infection_mask": ["background", "left_lung", "right_lung", "infection"],
}
_OTHER_CLASSES = ["background", "object"]


class _Scan(NamedTuple):
    """A volume in memory; see `imaging.volume.read_scan`."""

    pixels: np.ndarray
    geometry: Geometry
    sha256: str
    file_bytes: int


class _Mask(NamedTuple):
    """A volume in memory, see `imaging.volume.read_mask`, and the values that it holds."""

    labels: np.ndarray
    geometry: Geometry
    had_ringing: bool
    values: list[int]


def find_items(files: RawFiles, config: PreprocessConfig) -> Iterator[Item]:
    """Yields an item for every scan; with --unlabeled for those without a mask, if there are any such, or for all."""
    pairs = find_pairs(files, config.ct.mask, config.unlabeled)
    if config.unlabeled:
        bare = [pair for pair in pairs if not pair.mask] or pairs
        pairs = [Pair(pair.scan, None, None if pair.scan else pair.error) for pair in bare]
    stems = Counter(stem(pair.scan or pair.mask) for pair in pairs)
    for pair in pairs:
        path = PurePosixPath(pair.scan or pair.mask)
        name = stem(str(path))
        yield Item(name if stems[name] == 1 else str(path.parent / name), pair.scan, pair.mask, error=pair.error)


def class_names(files: RawFiles, config: PreprocessConfig) -> list[str]:
    """Returns the classes that are asked for, or those that the mask's name tells."""
    refuse_bits(config)
    if config.ct.labels is not None:
        return ["background", *config.ct.labels]
    if config.classes is not None:
        return config.classes
    return _KNOWN_CLASSES.get(mask_name(files, config.ct.mask, config.unlabeled), _OTHER_CLASSES)


def examine(files: RawFiles, item: Item, config: PreprocessConfig) -> list[dict]:
    """Returns one dict for each axial slice; reads the whole volume, and its mask.

    Raises:
      ValueError: scan or mask is damaged, or they do not lie on the same grid.
    """
    scan = files.load(item.image, _decode_scan)
    count = scan.pixels.shape[2]
    foreground: list[int | None] = [None] * count
    if item.mask and not config.unlabeled:
        mask = files.load(item.mask, _decode_mask)
        _check_pair(item, scan, mask)
        table = _label_table(item, mask, config)
        foreground = [int(np.count_nonzero(table[axial_slice(mask.labels, index)])) for index in range(count)]
    height, width = axial_slice(scan.pixels, 0).shape
    geometry = json.dumps(dataclasses.asdict(scan.geometry))
    shared = {"group": item.key, "height": height, "width": width, "channels": 1, "depth": 16}
    shared |= {"image_bytes": scan.file_bytes // count, "sha256": scan.sha256, "geometry": geometry}
    rows = []
    for index in range(count):
        pixels = scan.pixels[:, :, index]
        facts = {"slice_index": index, "foreground": foreground[index], "blank": bool(pixels.min() == pixels.max())}
        rows.append(shared | {"key": f"{item.key}/{index:04d}"} | facts)
    return rows


def read_image(files: RawFiles, item: Item) -> RawImage:
    """Returns one axial slice: HU + 32768, uint16 [height, width, 1]."""
    scan = files.load(item.image, _decode_scan)
    hounsfield = axial_slice(scan.pixels, item.slice_index)
    stored = (hounsfield.astype(np.int32) + 32768).astype(np.uint16)
    return RawImage(stored[:, :, np.newaxis], scan.sha256, spacing_mm=scan.geometry.spacing_mm)


def read_masks(files: RawFiles, item: Item, height: int, width: int, config: PreprocessConfig) -> Masks:
    """Returns the class mask of one axial slice."""
    scan, mask = files.load(item.image, _decode_scan), files.load(item.mask, _decode_mask)
    _check_pair(item, scan, mask)
    labels = axial_slice(mask.labels, item.slice_index)
    check_size(labels.shape, height, width, item.mask)
    warnings = ("interpolated masks rounded",) if mask.had_ringing else ()
    return Masks(_label_table(item, mask, config)[labels], warnings=warnings)


def _decode_scan(data: bytes) -> _Scan:
    pixels, geometry = read_scan(data)
    return _Scan(pixels, geometry, hashlib.sha256(data).hexdigest(), len(data))


def _decode_mask(data: bytes) -> _Mask:
    labels, geometry, had_ringing = read_mask(data)
    values = np.flatnonzero(np.bincount(labels.ravel(order="K"), minlength=256)).tolist()
    return _Mask(labels, geometry, had_ringing, values)


def _check_pair(item: Item, scan: _Scan, mask: _Mask) -> None:
    try:
        check_same_grid(scan.geometry, mask.geometry)
    except ValueError as error:
        raise ValueError(f"{item.image} and {item.mask}: {error}") from error


def _label_table(item: Item, mask: _Mask, config: PreprocessConfig) -> np.ndarray:
    """Returns the class of each mask value, uint8 [256].

    Raises:
      ValueError: the volume holds values that are no class.
    """
    table = np.zeros(256, np.uint8)
    if config.ct.labels is not None:
        for number, values in enumerate(config.ct.labels.values(), 1):
            table[values] = number
        return table
    name = config.ct.mask or PurePosixPath(item.mask).parent.name
    classes = config.classes or _KNOWN_CLASSES.get(name, _OTHER_CLASSES)
    if config.classes is None and (name == "lung_mask" or set(mask.values) <= {0, 255}):
        table[1:] = 1
        return table
    if strange := [value for value in mask.values if value >= len(classes)]:
        raise ValueError(
            f"{item.mask}: expected mask values 0 to {len(classes) - 1} ({', '.join(classes)}), found {strange}; "
            "name the classes with --classes, or choose values with --ct.labels '{liver: [5], lung: [10, 11]}'"
        )
    table[: len(classes)] = np.arange(len(classes))
    return table
