"""Verification: does a records folder hold what its info.json says, to the last byte?"""

from collections.abc import Callable, Iterator

import google_crc32c
import numpy as np

from imaging.codec import decode_image, decode_mask
from records.files import join, open_file
from records.info import RecordsInfo, SplitInfo
from records.schema import IGNORE, Record, decode
from records.shards import read_shard

_BLOCK = 2**20


def verify(folder: str, info: RecordsInfo, report: Callable[[int], None]) -> Iterator[str]:
    """Yields a line for every fault, naming the file and the record.

    Checked are every checksum (of files and of records), every count, that every image and mask decodes and agrees
    with what its record says, that masks hold known labels only, and that keys are unique.

    Args:
      folder: of the records.
      info: as `read_info` returns it.
      report: is told how many records are done.
    """
    keys: dict[str, str] = {}
    done = 0
    for split, split_info in info.splits.items():
        if not split_info.num_examples:
            continue
        pixels, examples = np.zeros(256, np.int64), np.zeros(256, np.int64)
        objects = [0] * len(split_info.object_counts)
        faults = 0
        for number, shard in enumerate(info.shards(split)):
            path = join(folder, shard.name)
            if fault := _check_file(path, split_info.shard_crc32c[number]):
                faults += 1
                yield fault
            count = 0
            try:
                for count, serialized in enumerate(read_shard(path), 1):
                    where = f"{path}: record {count - 1}"
                    try:
                        record = decode(serialized)
                        counts = _check_record(record, info)
                    except ValueError as error:
                        faults += 1
                        yield f"{where}: {error}"
                        continue
                    pixels += counts
                    examples += counts > 0
                    if record.objects is not None:
                        objects[min(record.objects.bit_length(), len(objects) - 1)] += 1
                    if record.source_id in keys:
                        yield f"{where}: the key {record.source_id!r} is also that of {keys[record.source_id]}"
                    keys[record.source_id] = where
                    report(done + count)
            except ValueError as error:
                faults += 1
                yield str(error)
            if count != split_info.shard_lengths[number]:
                faults += 1
                yield f"{path}: expected {split_info.shard_lengths[number]} records, found {count}"
            done += split_info.shard_lengths[number]
            report(done)
        if not faults:
            yield from _check_totals(split, split_info, info, pixels, examples, objects)


def _check_file(path: str, expected: str) -> str | None:
    crc = 0
    with open_file(path) as file:
        while block := file.read(_BLOCK):
            crc = google_crc32c.extend(crc, block)
    return None if f"{crc:08x}" == expected else f"{path}: expected CRC32C {expected}, found {crc:08x}"


def _check_record(record: Record, info: RecordsInfo) -> np.ndarray:
    """Returns how many mask pixels have each value, int64 [256]. Raises ValueError for what is wrong."""
    image = decode_image(record.image)
    said = (record.height, record.width, record.channels)
    if image.shape != said:
        raise ValueError(f"its image is {image.shape}, its keys say {said}")
    if record.channels != info.channels or image.dtype != info.dtype:
        raise ValueError(f"expected {info.channels} channels of {info.dtype}, found {record.channels} of {image.dtype}")
    if info.height is not None and (record.height, record.width) != (info.height, info.width):
        raise ValueError(f"expected {info.height}x{info.width}, found {record.height}x{record.width}")
    if (record.mask is not None) != info.labeled:
        raise ValueError(f"expected {'a' if info.labeled else 'no'} mask")
    counts = np.zeros(256, np.int64)
    if record.mask is not None:
        mask = decode_mask(record.mask)
        if mask.shape != image.shape[:2]:
            raise ValueError(f"its mask is {mask.shape}, its image {image.shape[:2]}")
        if mask.dtype != np.uint8:
            raise ValueError(f"expected a mask of uint8, found {mask.dtype}")
        counts = np.bincount(mask.ravel(), minlength=256)
        strange = [value for value in np.flatnonzero(counts).tolist() if value >= len(info.classes) and value != IGNORE]
        if strange:
            raise ValueError(
                f"its mask holds {strange}; the classes are 0 to {len(info.classes) - 1}, {IGNORE} = ignore"
            )
    if info.instances and record.instances is None:
        raise ValueError("expected an instance map")
    if record.instances is not None:
        instances = decode_mask(record.instances)
        if instances.shape != image.shape[:2] or instances.dtype != np.uint16:
            raise ValueError(
                f"its instance map is {instances.dtype}{instances.shape}, expected uint16{image.shape[:2]}"
            )
    return counts


def _check_totals(
    split: str, expected: SplitInfo, info: RecordsInfo, pixels: np.ndarray, examples: np.ndarray, objects: list[int]
) -> Iterator[str]:
    found = {
        "class_pixels": pixels[: len(info.classes)].tolist(),
        "ignored_pixels": int(pixels[IGNORE]),
        "class_examples": examples[: len(info.classes)].tolist(),
        "object_counts": objects,
    }
    for name, value in found.items():
        if value != getattr(expected, name):
            yield f"split {split}: expected {name} {getattr(expected, name)}, found {value}"
