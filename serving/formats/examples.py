"""Images on which an export is compared with the Keras model."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from imaging.codec import encode_png
from imaging.tiling import Window, cut
from inference.inputs.frames import read_frames
from inference.inputs.sources import Source, find_sources
from inference.run import TrainedModel
from serving.formats.graph import input_size


class Examples(NamedTuple):
    """Images as a model sees them, and their files.

    Attributes:
      pixels: [examples, height, width, channels] of the records' dtype.
      files: PNGs, before they were stretched.
      stretched: whether any was.
    """

    pixels: np.ndarray
    files: list[bytes]
    stretched: bool


def read_examples(paths: list[str], trained: TrainedModel, count: int, fail: Callable[[Source, str], None]) -> Examples:
    """Returns the first images of files, folders, zips or records; of models that see tiles, the middle of each.

    Args:
      paths: as `find_sources` takes them.
      trained: the model.
      count: how many images.
      fail: gets each file that cannot be read, and why.

    Raises:
      ValueError: there is no image.
    """
    height, width = input_size(trained)
    pixels, files, stretched = [], [], False
    for frame in read_frames(find_sources(paths), trained, fail):
        image = frame.pixels
        if trained.tile is not None:
            y, x = (max(0, (size - trained.tile) // 2) for size in image.shape[:2])
            image = cut(image, Window(y, x, height, width), 0 if trained.crop else int(image.min()))
        pixels.append(image)
        files.append(encode_png(image if trained.tile is not None else frame.image))
        stretched |= trained.tile is None and frame.image.shape[:2] != (height, width)
        if len(pixels) == count:
            break
    if not pixels:
        raise ValueError(f"examples: expected images that can be read in {', '.join(paths)}, found none")
    return Examples(np.stack(pixels), files, stretched)


def make_up_examples(trained: TrainedModel, count: int) -> Examples:
    """Returns images of blobs and noise of the model's size and kind."""
    height, width = input_size(trained)
    low, high = (0, 255) if trained.dtype == "uint8" else (0, 65535)
    if trained.intensity is not None and trained.intensity["unit"] == "HU":
        low, high = dataclasses.replace(trained, window=trained.window or (-1000, 1000)).stored_window
    pixels = []
    for number in range(count):
        generator = np.random.default_rng(number)
        noise = generator.random((height, width, trained.channels), np.float32)
        blobs = cv2.GaussianBlur(noise, (0, 0), max(height, width) / 32).reshape(noise.shape)
        blobs = (blobs - blobs.min()) / max(float(np.ptp(blobs)), 1e-6)
        pixels.append(np.rint(low + (high - low) * (0.9 * blobs + 0.1 * noise)).astype(trained.dtype))
    return Examples(np.stack(pixels), [encode_png(image) for image in pixels], stretched=False)
