"""One example of a segmentation dataset: its keys, its encoding, its decoding.

The keys are those that TensorFlow's own segmentation code reads (Model Garden, DeepLab). Nobody else in this
project spells one. `FEATURES` is the single specification: encode, decode and the TensorFlow Datasets metadata
are made from it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from records.example import Example

IGNORE = 255
"""Value of a class mask where nothing is known: such pixels count in no loss and no score."""


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
}


@dataclass(frozen=True)
class Record:
    """One example before encoding. `encoded` things are whole image files.

    Attributes:
      image: PNG or JPEG file of `height` x `width` pixels, `channels` 1 or 3.
      image_format: "png" or "jpeg".
      source_id: unique key.
      filename: path of the raw image, relative to the dataset's root.
      group: examples of one group are never divided between splits.
      mask: PNG of class indices (uint8, 255 = ignore), or None where unlabelled.
      instances: PNG of object numbers (uint16, 0 = none), or None where not known.
      objects: number of annotated objects, or None where not known.
      original_height, original_width: of the raw image.
      crop: (y, x, height, width) of the raw image that this example shows.
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
    )


def parse(serialized, *, channels: int, dtype: str, labeled: bool):
    """Decodes one example inside a tf.data pipeline.

    Args:
      serialized: string tensor [], a tf.train.Example.
      channels: of every image of the records (`RecordsInfo.channels`).
      dtype: "uint8" or "uint16", likewise.
      labeled: whether the records have masks.

    Returns:
      dict: "image" dtype [height, width, channels]; "mask" uint8 [height, width], if labeled; "source_id" and
      "group" string [].
    """
    import tensorflow as tf  # those who only write records need none of it

    keys = ["image/encoded", "image/source_id", "image/group"] + ["image/segmentation/class/encoded"] * labeled
    features = tf.io.parse_single_example(serialized, {key: tf.io.FixedLenFeature([], tf.string) for key in keys})
    if dtype == "uint8":
        # One kernel for both formats: decode_jpeg reads PNG too. The accurate transform gives OpenCV's very pixels.
        image = tf.io.decode_jpeg(features["image/encoded"], channels=channels, dct_method="INTEGER_ACCURATE")
    else:
        image = tf.io.decode_png(features["image/encoded"], channels=channels, dtype=tf.uint16)
    image.set_shape([None, None, channels])
    example = {"image": image, "source_id": features["image/source_id"], "group": features["image/group"]}
    if labeled:
        mask = tf.io.decode_png(features["image/segmentation/class/encoded"], channels=1)
        example["mask"] = tf.squeeze(mask, -1)
    return example
