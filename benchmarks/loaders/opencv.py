"""Decoding with OpenCV, which all loaders but those of TensorFlow share, and the limit: a loop that does only that."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from benchmarks.loaders.layouts import IMAGES, MASKS, RECORDS
from records.files import join
from records.info import read_info

Batches = Iterator[tuple[list | np.ndarray, list | np.ndarray]]
"""Endless pairs of images, uint8 [batch, height, width, 3], and masks, uint8 [batch, height, width]."""


@dataclass(frozen=True)
class Decoder:
    """Makes pixels of an example's bytes; small, so that worker processes get it by value.

    Attributes:
      raw_shape: (height, width, channels) where the bytes of an image are its pixels; None for image files.
    """

    raw_shape: tuple[int, int, int] | None

    def __call__(self, image: bytes, mask: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Returns (image: uint8 RGB [height, width, 3], mask: uint8 [height, width])."""
        data = np.frombuffer(image, np.uint8)
        # The copy is what every decoder makes: pixels that may be written to. RGB is libjpeg's own order, at no cost.
        raw = self.raw_shape
        pixels = data.reshape(raw).copy() if raw else cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        return pixels, cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_GRAYSCALE)


def read_decoder(folder: str) -> Decoder:
    """Returns what decodes the examples of a folder of `write_layouts`."""
    info = read_info(join(folder, RECORDS))
    return Decoder((info.height, info.width, info.channels) if info.coding == "raw" else None)


def file_pairs(folder: str) -> list[tuple[Path, Path]]:
    """Returns (path of the image, path of the mask) of every example."""
    images, masks = (sorted(Path(folder, name).iterdir()) for name in (IMAGES, MASKS))
    return list(zip(images, masks, strict=True))


def opencv_loop(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields examples as fast as OpenCV can: from memory, in order, one thread a core, never put into a batch."""
    cv2.setNumThreads(1)  # the pool's threads are the cores
    decoder = read_decoder(folder)
    pairs = [(image.read_bytes(), mask.read_bytes()) for image, mask in file_pairs(folder)]
    chunks = [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]

    def decode_all(chunk):
        return tuple(zip(*(decoder(*pair) for pair in chunk), strict=True))

    with ThreadPoolExecutor(cores) as executor:
        waiting = deque()
        for chunk in cycle(chunks):
            waiting.append(executor.submit(decode_all, chunk))
            if len(waiting) > 2 * cores:
                yield waiting.popleft().result()
