"""python -m benchmarks.coding: what PNG, JPEG and raw pixels cost in bytes, decoding time and exactness.

Decoding is what training does: `records.schema.parse` in a tf.data pipeline, here on one core.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

import cli
from imaging.codec import SUFFIXES, decode_image, encode_jpeg, encode_png
from imaging.resize import resize_image
from records.schema import Record, decode, decode_pixels, encode, parse

SIZE = 256
"""Height and width of every image."""

_BATCH = 16

CODINGS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "PNG": ("png", encode_png),
    "JPEG, quality 95": ("jpeg", partial(encode_jpeg, quality=95)),
    "JPEG, quality 85": ("jpeg", partial(encode_jpeg, quality=85)),
    "raw pixels": ("raw", np.ndarray.tobytes),
}
"""(format of the record, encoder) by name."""


@dataclass(frozen=True)
class CodingConfig:
    """What is measured."""

    raw: str | None = None
    """Directory of real 8-bit images, which are resized; null: made-up images."""
    images: int = 100
    """Images that are used, at most."""
    repeats: int = 5
    """Times that all images are decoded; the median counts."""


def read_images(folder: str, most: int) -> list[np.ndarray]:
    """Returns the images beneath a folder, uint8 [SIZE, SIZE, 3], ordered by path; grey ones have equal channels.

    Args:
      folder: to look in.
      most: number of images to stop at.

    Raises:
      ValueError: there are none, or one has 16 bits.
    """
    paths = sorted(path for path in Path(folder).rglob("*") if path.name.lower().endswith(SUFFIXES))[:most]
    if not paths:
        raise ValueError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")
    images = []
    for path in paths:
        pixels = decode_image(path.read_bytes())
        if pixels.dtype != np.uint8:
            raise ValueError(f"{path}: expected 8 bits a pixel, which JPEG holds, found {pixels.dtype}")
        images.append(resize_image(np.repeat(pixels, 3 // pixels.shape[2], axis=2), SIZE, SIZE))
    return images


def make_record(pixels: np.ndarray, image_format: str, encode_pixels: Callable[[np.ndarray], bytes]) -> bytes:
    """Returns the serialized example of one image, without a mask."""
    height, width, channels = pixels.shape
    record = Record(
        image=encode_pixels(pixels),
        image_format=image_format,
        height=height,
        width=width,
        channels=channels,
        source_id="image",
        filename="image",
        group="image",
        mask=None,
        instances=None,
        objects=None,
        original_height=height,
        original_width=width,
        crop=(0, 0, height, width),
    )
    return encode(record)


def decoding_seconds(records: list[bytes], image_format: str) -> float:
    """Returns how long one core takes to decode all records."""
    import tensorflow as tf

    parse_fn = partial(parse, channels=3, dtype="uint8", labeled=False, raw=image_format == "raw")
    dataset = tf.data.Dataset.from_tensor_slices(records).map(parse_fn).batch(_BATCH)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    iterator = iter(dataset.with_options(options))
    start = time.monotonic()
    for _ in iterator:
        pass
    return time.monotonic() - start


def compare_codings(images: list[np.ndarray], repeats: int) -> Table:
    """Returns a table of bytes, speed and error of each coding."""
    table = Table(title=f"{len(images)} images of {SIZE}x{SIZE}, one core, medians of {repeats}", title_justify="left")
    for heading in ("", "bytes/image", "images/s", "largest error", "mean error"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, (image_format, encode_pixels) in CODINGS.items():
        records = [make_record(pixels, image_format, encode_pixels) for pixels in images]
        decoding_seconds(records, image_format)  # the first time, TensorFlow sets itself up
        seconds = statistics.median(decoding_seconds(records, image_format) for _ in range(repeats))
        decoded = [decode(record) for record in records]
        errors = [
            np.abs(decode_pixels(record, "uint8").astype(int) - pixels)
            for record, pixels in zip(decoded, images, strict=True)
        ]
        size = statistics.mean(len(record.image) for record in decoded)
        rate = len(images) / seconds
        table.add_row(name, f"{size:.0f}", f"{rate:.0f}", str(np.max(errors)), f"{np.mean(errors):.2f}")
    return table


def main() -> None:
    """Parses the command line, measures, prints."""
    _, config = cli.parse(CodingConfig, {}, "python -m benchmarks.coding", "Bytes, speed and error of image codings.")
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        if not config.raw:
            from preprocess.synthetic import SyntheticConfig, write_folder

            write_folder(Path(folder), SyntheticConfig(images=config.images))
        images = read_images(config.raw or f"{folder}/images", config.images)
    cli.console.print(compare_codings(images, config.repeats))


if __name__ == "__main__":
    cli.run(main)
