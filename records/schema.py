"""One example of a segmentation dataset: its keys, its encoding, its decoding.

The keys are those that TensorFlow's own segmentation code reads (Model Garden, DeepLab). Nobody else in this
project spells one. `FEATURES` is the single specification: encode, decode and the TensorFlow Datasets metadata
are made from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imaging.codec import decode_image
from records.example import Example

IGNORE = 255
"""Value of a class mask where nothing is known: such pixels count in no loss and no score."""

IGNORE_BIT = 1 << 15
"""The same for masks of overlapping classes, whose bits 0 to 14 are classes."""


@dataclass(frozen=True)
class Feature:
    """One key of an example: the type it is stored as, and its shape (() or (n,))."""

    kind: Literal["bytes", "int64", "float"]
    shape: tuple[int, ...] = ()
    optional: bool = False


FEATURES: dict[str, Feature] = {
    "image/encoded": Feature("bytes"),
    "image/format": Feature("bytes"),
    "image/height": Feature("int64"),
    "image/width": Feature("int64"),
    "image/channels": Feature("int64"),
    "image/source_id": Feature("bytes"),
    "image/filename": Feature("bytes"),
    "image/group": Feature("bytes"),
    "image/segmentation/class/encoded": Feature("bytes", optional=True),
    "image/segmentation/class/format": Feature("bytes", optional=True),
    "image/segmentation/instance/encoded": Feature("bytes", optional=True),
    "image/object/count": Feature("int64", optional=True),
    "image/original/height": Feature("int64"),
    "image/original/width": Feature("int64"),
    "image/crop": Feature("int64", (4,)),
    "image/slice_index": Feature("int64", optional=True),
    "image/spacing_mm": Feature("float", (3,), optional=True),
}


@dataclass(frozen=True)
class Record:
    """One example before encoding. `encoded` things are whole image files, but for raw pixels.

    Attributes:
      image: PNG or JPEG file of `height` x `width` pixels, `channels` 1 or 3; or the pixels themselves, C order
        [height, width, channels], uint8 or little-endian uint16.
      image_format: "png", "jpeg" or "raw".
      source_id: unique key.
      filename: path of the raw image, relative to the dataset's root.
      group: examples of one group are never divided between splits.
      mask: PNG of class indices (uint8, 255 = ignore) or, where classes overlap, of bit fields (uint16: bit k is
        class k, bit 15 = ignore); None where unlabelled.
      instances: PNG of object numbers (uint16, 0 = none), or None where not known.
      objects: number of annotated objects, or None where not known.
      original_height, original_width: of the raw image.
      crop: (y, x, height, width) of the raw image that this example shows.
      slice_index: of the slice in its raw volume, or None where the raw image is no volume.
      spacing_mm: millimetres between rows, columns and slices of the raw volume (stored as float32), or None.
    """

    image: bytes
    image_format: str
    height: int
    width: int
    channels: int
    source_id: str
    filename: str
    group: str
    mask: bytes | None
    instances: bytes | None
    objects: int | None
    original_height: int
    original_width: int
    crop: tuple[int, int, int, int]
    slice_index: int | None = None
    spacing_mm: tuple[float, float, float] | None = None


def encode(record: Record) -> bytes:
    """Returns the serialized tf.train.Example, the same bytes for the same record always."""
    values: dict[str, Any] = {
        "image/encoded": record.image,
        "image/format": record.image_format,
        "image/height": record.height,
        "image/width": record.width,
        "image/channels": record.channels,
        "image/source_id": record.source_id,
        "image/filename": record.filename,
        "image/group": record.group,
        "image/segmentation/class/encoded": record.mask,
        "image/segmentation/class/format": None if record.mask is None else "png",
        "image/segmentation/instance/encoded": record.instances,
        "image/object/count": record.objects,
        "image/original/height": record.original_height,
        "image/original/width": record.original_width,
        "image/crop": record.crop,
        "image/slice_index": record.slice_index,
        "image/spacing_mm": record.spacing_mm,
    }
    example = Example()
    for key, feature in FEATURES.items():
        value = values.pop(key)
        if value is None and feature.optional:
            continue
        items = value if feature.shape else [value]
        if feature.kind == "bytes":
            items = [item.encode() if isinstance(item, str) else item for item in items]
        getattr(example.features.feature[key], f"{feature.kind}_list").value.extend(items)
    assert not values, f"keys without a specification: {sorted(values)}"
    # Map entries have no order of their own in protocol buffers; "deterministic" sorts them by key.
    return example.SerializeToString(deterministic=True)


def decode(serialized: bytes) -> Record:
    """Returns the record of a serialized example.

    Raises:
      ValueError: a key is missing, or the bytes are no tf.train.Example.
    """
    example = Example()
    try:
        example.ParseFromString(serialized)
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise ValueError(f"expected a serialized tf.train.Example: {error}") from error
    values: dict[str, Any] = {}
    for key, feature in FEATURES.items():
        if key not in example.features.feature:
            if not feature.optional:
                raise ValueError(f"expected the key {key!r}, found {sorted(example.features.feature)}")
            values[key] = None
            continue
        stored = list(getattr(example.features.feature[key], f"{feature.kind}_list").value)
        if len(stored) != int(np.prod(feature.shape)):
            raise ValueError(f"{key}: expected {feature.kind} of shape {feature.shape}, found {len(stored)} values")
        values[key] = tuple(stored) if feature.shape else stored[0]
    return Record(
        image=values["image/encoded"],
        image_format=values["image/format"].decode(),
        height=values["image/height"],
        width=values["image/width"],
        channels=values["image/channels"],
        source_id=values["image/source_id"].decode(),
        filename=values["image/filename"].decode(),
        group=values["image/group"].decode(),
        mask=values["image/segmentation/class/encoded"],
        instances=values["image/segmentation/instance/encoded"],
        objects=values["image/object/count"],
        original_height=values["image/original/height"],
        original_width=values["image/original/width"],
        crop=values["image/crop"],
        slice_index=values["image/slice_index"],
        spacing_mm=values["image/spacing_mm"],
    )


def decode_pixels(record: Record, dtype: str) -> np.ndarray:
    """Returns the pixels of a record's image, [height, width, channels].

    Args:
      record: image file or raw pixels.
      dtype: "uint8" or "uint16", of raw pixels (`RecordsInfo.dtype`); image files know theirs.

    Raises:
      ValueError: the image file is damaged, or the raw pixels are too few or too many.
    """
    if record.image_format != "raw":
        return decode_image(record.image)
    shape = (record.height, record.width, record.channels)
    stored = np.dtype(dtype).newbyteorder("<")
    expected = int(np.prod(shape)) * stored.itemsize
    if len(record.image) != expected:
        raise ValueError(
            f"image/encoded: expected {expected} bytes of raw {dtype}{list(shape)}, found {len(record.image)}"
        )
    return np.frombuffer(record.image, stored).astype(dtype, copy=False).reshape(shape)


def ignore_value(overlapping: bool) -> int:
    """Returns the value of a mask's pixel that says that nothing is known there."""
    return IGNORE_BIT if overlapping else IGNORE


def known_pixels(mask: np.ndarray, overlapping: bool) -> np.ndarray:
    """Returns where a mask is not ignored, bool of the mask's shape."""
    return mask < IGNORE_BIT if overlapping else mask != IGNORE


def class_areas(mask: np.ndarray, classes: Sequence[int], overlapping: bool) -> np.ndarray:
    """Returns where a mask holds each of the classes, bool [classes, ...]; ignored pixels hold none.

    Args:
      mask: [...], uint8 class indices or, if overlapping, uint16 bit fields.
      classes: indices of classes.
      overlapping: which of the two.
    """
    numbers = np.array(classes, mask.dtype).reshape(-1, *[1] * mask.ndim)
    if overlapping:
        return (mask >> numbers & 1).astype(bool) & (mask < IGNORE_BIT)
    return mask == numbers


def count_classes(mask: np.ndarray, num_classes: int, overlapping: bool) -> tuple[np.ndarray, int]:
    """Returns (pixels of each class, int64 [classes]; ignored pixels) of one mask, as `SplitInfo` counts them.

    Args:
      mask: [height, width], uint8 class indices or, if overlapping, uint16 bit fields.
      num_classes: of the records.
      overlapping: which of the two.
    """
    counts = np.bincount(mask.ravel(), minlength=2 * IGNORE_BIT if overlapping else IGNORE + 1)
    if not overlapping:
        return counts[:num_classes], int(counts[IGNORE])
    values = np.flatnonzero(counts[:IGNORE_BIT])
    pixels = [counts[values[values >> number & 1 == 1]].sum() for number in range(num_classes)]
    return np.array(pixels, np.int64), int(counts[IGNORE_BIT:].sum())


def parse(
    serialized,
    *,
    channels: int,
    dtype: str,
    labeled: bool,
    overlapping: bool = False,
    raw: bool = False,
    window: Callable | None = None,
    details: bool = False,
):
    """Decodes one example, or a window of it, inside a tf.data pipeline.

    Args:
      serialized: string tensor [], a tf.train.Example.
      channels: of every image of the records (`RecordsInfo.channels`).
      dtype: "uint8" or "uint16", likewise.
      labeled: whether the records have masks.
      overlapping: whether these are bit fields.
      raw: whether images are raw pixels.
      window: from the whole mask to int32 [4] (y, x, height, width), the part inside the image that is wanted, for
        labelled records; None: all. Of a JPEG that part alone is decoded, to the very pixels of the whole.
      details: whether to add what scores of objects, distances and volumes need, see `parse_details`.

    Returns:
      dict: "image" dtype [height, width, channels]; "mask" uint8 (uint16 if overlapping) [height, width], if labeled;
      "source_id" and "group" string [].
    """
    import tensorflow as tf  # those who only write records need none of it

    from records.window import cut_window, decode_jpeg_window

    texts = ["image/encoded", "image/source_id", "image/group"] + ["image/segmentation/class/encoded"] * labeled
    mixed = window is not None and dtype == "uint8" and not raw  # PNG and JPEG may lie side by side
    texts += ["image/format"] * mixed
    numbers = ["image/height", "image/width"] * (raw or window is not None)
    wanted = {key: tf.io.FixedLenFeature([], tf.string) for key in texts}
    wanted |= {key: tf.io.FixedLenFeature([], tf.int64) for key in numbers}
    features = tf.io.parse_single_example(serialized, wanted)
    example = {"source_id": features["image/source_id"], "group": features["image/group"]}
    part = None
    if labeled:
        mask_dtype = tf.uint16 if overlapping else tf.uint8
        mask = tf.io.decode_png(features["image/segmentation/class/encoded"], channels=1, dtype=mask_dtype)
        mask = tf.squeeze(mask, -1)
        if window is not None:
            # Whole images fail by themselves when they are batched with masks of another size; windows would not.
            said = tf.stack([features["image/height"], features["image/width"]])
            tf.debugging.assert_equal(tf.shape(mask, tf.int64), said, "mask and image differ in size")
        part = window and window(mask)
        example["mask"] = mask if part is None else cut_window(mask, part)

    def decode_whole():
        if raw:
            pixels = tf.io.decode_raw(features["image/encoded"], tf.dtypes.as_dtype(dtype), little_endian=True)
            return tf.reshape(pixels, tf.stack([*(features[key] for key in numbers), channels]))
        if dtype == "uint16":
            return tf.io.decode_png(features["image/encoded"], channels=channels, dtype=tf.uint16)
        # One kernel for both formats: decode_jpeg reads PNG too. The accurate transform gives OpenCV's very pixels.
        return tf.io.decode_jpeg(features["image/encoded"], channels=channels, dct_method="INTEGER_ACCURATE")

    if part is None:
        image = decode_whole()
    elif not mixed:
        image = cut_window(decode_whole(), part)
    else:
        image = tf.cond(
            features["image/format"] == "jpeg",
            lambda: decode_jpeg_window(features["image/encoded"], part, tf.shape(mask)[1], channels),
            lambda: cut_window(decode_whole(), part),
        )
    image.set_shape([None, None, channels])
    return example | {"image": image} | (parse_details(serialized) if details else {})


def parse_details(serialized):
    """Reads what scores of objects, distances and volumes need, of one example inside a tf.data pipeline.

    Returns:
      dict: "instances" string [], the PNG, empty where there is none; "filename" string []; "slice_index" int64 [], -1
      where there is none; "spacing_mm" float32 [3], between rows and columns of this example and slices of its volume,
      0 where not known.
    """
    import tensorflow as tf

    wanted = {
        "image/segmentation/instance/encoded": tf.io.FixedLenFeature([], tf.string, ""),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/slice_index": tf.io.FixedLenFeature([], tf.int64, -1),
        "image/spacing_mm": tf.io.FixedLenFeature([3], tf.float32, [0.0] * 3),
        "image/crop": tf.io.FixedLenFeature([4], tf.int64),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
    }
    features = tf.io.parse_single_example(serialized, wanted)
    # Records that were resized have other distances between their pixels than the raw volume.
    shown, stored = features["image/crop"][2:], tf.stack([features["image/height"], features["image/width"]])
    scale = tf.concat([tf.cast(shown / stored, tf.float32), [1.0]], 0)
    return {
        "instances": features["image/segmentation/instance/encoded"],
        "filename": features["image/filename"],
        "slice_index": features["image/slice_index"],
        "spacing_mm": features["image/spacing_mm"] * scale,
    }
