"""One planned item becomes one record."""

from typing import NamedTuple

import numpy as np

from imaging.codec import decode_image, encode_png, image_format
from imaging.resize import resize_image, resize_mask
from preprocess.config import PreprocessConfig
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES
from preprocess.sources.item import Item
from records.schema import Record


class Target(NamedTuple):
    """What every image of a dataset becomes: `channels` 1 or 3, `dtype` "uint8" or "uint16"."""

    channels: int
    dtype: str


class Converted(NamedTuple):
    """A record, and its pixels for the statistics.

    image: [height, width, channels]. mask: uint8 [height, width] or None. lost_pixels: see `Masks`.
    """

    record: Record
    image: np.ndarray
    mask: np.ndarray | None
    lost_pixels: int


def convert(
    layout: str, files: RawFiles, item: Item, group: str, target: Target, config: PreprocessConfig
) -> Converted:
    """Returns the record of one raw image and its masks.

    Raises:
      ValueError: the item is bad; the message says what is wrong with which file.
    """
    try:
        data = files.read(item.image)
        raw = decode_image(data)
    except ValueError as error:
        raise ValueError(f"{item.image}: {error}") from error
    original_height, original_width = raw.shape[:2]
    height, width = (original_height, original_width) if config.size is None else (config.size, config.size)
    image = _as_target(resize_image(raw, height, width), target)

    if image is raw and image_format(data) == "jpeg":
        encoded, stored_format = data, "jpeg"  # encoding it again would lose detail, as PNG it would be larger
    else:
        encoded, stored_format = encode_png(image), "png"

    masks = None
    mask = instances = None
    if not config.unlabeled:
        masks = SOURCES[layout].read_masks(files, item, original_height, original_width, config)
        mask = resize_mask(masks.classes, height, width)
        if masks.instances is not None:
            instances = encode_png(resize_mask(masks.instances, height, width))
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
        objects=masks.objects if masks else None,
        original_height=original_height,
        original_width=original_width,
        crop=(0, 0, original_height, original_width),
    )
    return Converted(record, image, mask, masks.lost_pixels if masks else 0)


def class_names(layout: str, config: PreprocessConfig) -> list[str]:
    """Returns the names of the classes, by mask value."""
    return config.classes or SOURCES[layout].CLASSES


def _as_target(image: np.ndarray, target: Target) -> np.ndarray:
    """Returns the image with the dataset's channels and dtype; the same array if it has them."""
    if image.shape[2] < target.channels:
        image = np.repeat(image, target.channels, axis=2)
    if image.dtype != target.dtype:
        image = image.astype(np.uint16) * 257  # 255 becomes 65535
    return image
