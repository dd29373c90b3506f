"""Validation images with what is predicted for them, on the disk: they are judged again and again.

Probabilities are kept as levels: the number of hundredths 0.01, 0.02 ... 0.99 that they reach. A pixel is above one of
these thresholds exactly where its level says so, so nothing is lost that a threshold could tell.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

THRESHOLDS = np.arange(1, 100) / 100
"""All that are tried."""


class Kept(NamedTuple):
    """An image of the validation split.

    Attributes:
      levels: uint8 [height, width, outputs], from 0 to 99; of exclusive classes of which there are more than two, uint8
        [height, width] class indices: there is no threshold.
      truth: [height, width], uint8 class indices or uint16 bit fields.
      instances: PNG of the instance map; empty where there is none.
    """

    levels: np.ndarray
    truth: np.ndarray
    instances: bytes

    def area(self, number: int, threshold: float, overlapping: bool) -> np.ndarray:
        """Returns bool [height, width]: where a class is predicted with a threshold, one of THRESHOLDS."""
        if self.levels.ndim == 2:
            return self.levels == number
        return self.levels[..., number if overlapping else 0] >= round(100 * threshold)


def keep_images(batches: Iterable[dict], softmax: bool, folder: Path) -> list[Path]:
    """Writes a file for each image; returns their paths.

    Args:
      batches: as `Predictor.probabilities` yields them, labelled, with details.
      softmax: whether the most probable class counts, and there is no threshold.
      folder: where they go.
    """
    paths: list[Path] = []
    edges = THRESHOLDS.astype(np.float32)
    for batch in batches:
        for probabilities, truth, instances in zip(
            batch["probabilities"], batch["mask"], batch["instances"], strict=True
        ):
            levels = probabilities.argmax(-1) if softmax else np.searchsorted(edges, probabilities, side="right")
            paths.append(folder / f"{len(paths):08d}.npz")
            png = np.frombuffer(instances, np.uint8)
            np.savez_compressed(paths[-1], levels=levels.astype(np.uint8), truth=truth, instances=png)
    return paths


def read_image(path: Path) -> Kept:
    """Returns an image that `keep_images` wrote."""
    with np.load(path) as arrays:
        return Kept(arrays["levels"], arrays["truth"], arrays["instances"].tobytes())
