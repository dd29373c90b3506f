"""Validation images with what is predicted for them, on the disk: they are judged again and again.

Probabilities are kept as levels: the number of hundredths 0.01, 0.02 ... 0.99 that they reach. A pixel is above one of
these thresholds exactly where its level says so, so nothing is lost that a threshold could tell. Those of a softmax are
kept as they are: there a threshold compares classes.
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
      levels: uint8 [height, width, outputs], from 0 to 99; of a softmax float32, the probabilities.
      truth: [height, width], uint8 class indices or uint16 bit fields.
      instances: PNG of the instance map; empty where there is none.
    """

    levels: np.ndarray
    truth: np.ndarray
    instances: bytes

    @property
    def softmax(self) -> bool:
        """Whether the classes are exclusive, and more than two."""
        return self.levels.dtype == np.float32

    def classify(self, thresholds: dict[int, float]) -> np.ndarray:
        """Returns a softmax's mask, uint8 [height, width], as `Labels.classify` does; thresholds that lack are 0.5."""
        weights = np.ones(self.levels.shape[-1], np.float32)
        for number, threshold in thresholds.items():
            weights[number] = (1 - threshold) / threshold
        return (self.levels * weights).argmax(-1).astype(np.uint8)

    def area(self, number: int, threshold: float, overlapping: bool) -> np.ndarray:
        """Returns bool [height, width]: where a class is predicted with a threshold, one of THRESHOLDS."""
        if self.softmax:
            return self.classify({number: threshold}) == number
        return self.levels[..., number if overlapping else 0] >= round(100 * threshold)


def keep_images(batches: Iterable[dict], softmax: bool, folder: Path) -> list[Path]:
    """Writes a file for each image; returns their paths.

    Args:
      batches: as `Predictor.probabilities` yields them, labelled, with details.
      softmax: whether the probabilities are those of one.
      folder: where they go.
    """
    paths: list[Path] = []
    edges = THRESHOLDS.astype(np.float32)
    for batch in batches:
        for probabilities, truth, instances in zip(
            batch["probabilities"], batch["mask"], batch["instances"], strict=True
        ):
            paths.append(folder / f"{len(paths):08d}.npz")
            arrays = {"truth": truth, "instances": np.frombuffer(instances, np.uint8)}
            if softmax:  # not compressed: that would take longer than it saves
                np.savez(paths[-1], levels=np.asarray(probabilities, np.float32), **arrays)
            else:
                levels = np.searchsorted(edges, probabilities, side="right").astype(np.uint8)
                np.savez_compressed(paths[-1], levels=levels, **arrays)
    return paths


def read_image(path: Path) -> Kept:
    """Returns an image that `keep_images` wrote."""
    with np.load(path) as arrays:
        return Kept(arrays["levels"], arrays["truth"], arrays["instances"].tobytes())
