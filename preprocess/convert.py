"""One planned example becomes one record."""

from typing import NamedTuple

import numpy as np

from imaging.codec import encode_jpeg, encode_png, image_format
from imaging.intensity import transform_intensity
from imaging.resize import resize_image, resize_mask
from imaging.tiling import Window, cut
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES
from preprocess.sources.item import Item, Masks, RawImage, annotation_hash
from records.schema import Record, ignore_value


class Target(NamedTuple):
    """What every image of a dataset becomes: `channels` 1 or 3, `dtype` "uint8" or "uint16"."""

    channels: int
    dtype: str


class Opened(NamedTuple):
    """A raw image or slice in memory; its tiles are cut from it.

    raw: as read. pixels: after the intensity transform. masks: None where unlabelled.
    """

    raw: RawImage
    pixels: np.ndarray
    masks: Masks | None


class Converted(NamedTuple):
    """A record, and its pixels for the statistics.

    image: [height, width, channels]. mask: as in `Masks`, or None. lost_pixels, warnings: see `Masks`.
    """

    record: Record
    image: np.ndarray
    mask: np.ndarray | None
    lost_pixels: int
    warnings: tuple[str, ...]


def open_item(
    layout: str, files: RawFiles, item: Item, sha256: str, mask_hash: str | None, config: PreprocessConfig
) -> Opened:
    """Returns an item's image and masks.

    Args:
      layout: key of `SOURCES`.
      files: the raw dataset.
      item: what to read.
      sha256, mask_hash: of its files when they were indexed.
      config: settings.

    Raises:
      ValueError: the item is bad, or changed since it was indexed; the message says what is wrong with which file.
    """
    files.forget_reads()
    raw = SOURCES[layout].read_image(files, item)
    _check_unchanged(item.image, raw.sha256, sha256)
    masks = None
    if not config.unlabeled:
        height, width = raw.pixels.shape[:2]
        masks = SOURCES[layout].read_masks(files, item, height, width, config)
        annotation = item.annotation
        found = files.content_hash_as_read(item.mask) if annotation is None else annotation_hash(annotation)
        _check_unchanged(item.mask, found, mask_hash)
    return Opened(raw, transform_intensity(raw.pixels, config.intensity), masks)


def convert(opened: Opened, item: Item, group: str, target: Target, config: PreprocessConfig) -> Converted:
    """Returns the record of an image, a slice or one of its tiles."""
    raw, pixels, masks = opened
    original_height, original_width = pixels.shape[:2]
    window = Window(*(item.crop or (0, 0, original_height, original_width)))
    height, width = (window.height, window.width) if config.size is None else (config.size, config.size)
    # Beyond the image is its darkest value: 0 would be far below air in a CT slice.
    image = _as_target(resize_image(_cut(pixels, window, int(pixels.min())), height, width), target)
    encoded, stored_format = _encode(image, raw, config)
    mask = instances = None
    if masks:
        mask = resize_mask(_cut(masks.classes, window, ignore_value(masks.classes.dtype == np.uint16)), height, width)
        if masks.instances is not None:
            instances = encode_png(resize_mask(_cut(masks.instances, window, 0), height, width))
    record = Record(
        image=encoded,
        image_format=stored_format,
        height=height,
        width=width,
        channels=target.channels,
        source_id=item.key,
        filename=item.image,
        group=group,
        mask=None if mask is None else encode_png(mask),
        instances=instances,
        objects=_count_objects(masks, window) if masks else None,
        original_height=original_height,
        original_width=original_width,
        crop=tuple(window),
        slice_index=item.slice_index,
        spacing_mm=raw.spacing_mm,
    )
    return Converted(record, image, mask, masks.lost_pixels if masks else 0, masks.warnings if masks else ())


def _check_unchanged(path: str, found: str, indexed: str | None) -> None:
    if found != indexed:
        raise ValueError(f"{path}: changed since it was indexed; preprocess again when nothing writes to the raw data")


def _encode(image: np.ndarray, raw: RawImage, config: PreprocessConfig) -> tuple[bytes, str]:
    """Returns (bytes, format) of a record's image."""
    if config.coding == "raw":
        return image.astype(image.dtype.newbyteorder("<"), copy=False).tobytes(), "raw"
    if config.coding == "jpeg":
        return encode_jpeg(image, config.jpeg_quality), "jpeg"
    # Encoding it again would lose detail, as PNG it would be larger.
    if config.coding == "keep" and image is raw.pixels and raw.file and image_format(raw.file) == "jpeg":
        return raw.file, "jpeg"
    return encode_png(image), "png"


def _cut(pixels: np.ndarray, window: Window, fill: int) -> np.ndarray:
    return pixels if window == (0, 0, *pixels.shape[:2]) else cut(pixels, window, fill)


def _count_objects(masks: Masks, window: Window) -> int | None:
    """Returns the number of annotated objects in the window; None where they cannot be told apart."""
    if masks.objects is None or window == (0, 0, *masks.classes.shape):
        return masks.objects
    if masks.instances is None:
        return None
    return int(np.count_nonzero(np.unique(_cut(masks.instances, window, 0))))


def _as_target(image: np.ndarray, target: Target) -> np.ndarray:
    """Returns the image with the dataset's channels and dtype; the same array if it has them."""
    if image.shape[2] < target.channels:
        image = np.repeat(image, target.channels, axis=2)
    if image.dtype != target.dtype:
        image = image.astype(np.uint16) * 257  # 255 becomes 65535
    return image
