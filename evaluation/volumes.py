"""Slices put together: the volumes of an evaluation, one after another.

A volume is all slices of one raw file and group. Records keep slices of a volume side by side, so that no more than one
has to be held.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.boundary import Distances
from evaluation.shapes import ImageMasks
from evaluation.statistics import Counts


class VolumeKey(NamedTuple):
    """Which volume a slice belongs to."""

    group: str
    filename: str


class VolumeCollector:
    """Collects slices, and hands on each volume when the next one begins.

    A volume of which a slice has several examples, because it was cut into tiles, is not handed on: it would have to be
    made whole before it has distances.
    """

    def __init__(self, hand_on: Callable[[VolumeKey, dict[int, ImageMasks]], None]):
        """Takes what is called with every volume's key and slices by their index."""
        self._hand_on = hand_on
        self._key: VolumeKey | None = None
        self._slices: dict[int, ImageMasks] = {}
        self._cut = False
        self._done: set[VolumeKey] = set()

    def add(self, key: VolumeKey, index: int, masks: ImageMasks) -> None:
        """Takes the next slice.

        Raises:
          ValueError: its volume was handed on already.
        """
        if key != self._key:
            self.finish()
            if key in self._done:
                raise ValueError(
                    f"{key.filename}: expected the slices of a volume side by side, found slice {index} behind those "
                    "of others; leave out distances with --distances false, or preprocess anew"
                )
            self._key = key
        self._cut |= index in self._slices
        if self._cut:
            self._slices = {index: masks}  # of no use any more
        else:
            self._slices[index] = masks

    def finish(self) -> None:
        """Hands on the last volume."""
        if self._key is not None:
            self._done.add(self._key)
            if not self._cut:
                self._hand_on(self._key, self._slices)
        self._key, self._slices, self._cut = None, {}, False


def sum_counts(counts: Counts, rows: Sequence) -> tuple[list, Counts]:
    """Returns (distinct rows in order, the counts of all images of each).

    Args:
      counts: of images.
      rows: of each image, what it is summed by: hashable and sortable.
    """
    names = sorted(set(rows))
    number = {name: index for index, name in enumerate(names)}
    numbers = np.array([number[row] for row in rows])
    summed = []
    for values in counts:
        total = np.zeros((len(names), *values.shape[1:]))
        np.add.at(total, numbers, values)
        summed.append(total)
    return names, Counts(*summed)


def align_distances(names: Sequence[VolumeKey], measured: dict[VolumeKey, Distances], num_classes: int) -> Distances:
    """Returns the distances of volumes in order of their names; NaN where none were measured."""
    values = np.full((len(names), num_classes, 2), np.nan)
    one_sided = np.zeros((len(names), num_classes), bool)
    for row, name in enumerate(names):
        if name in measured:
            values[row], one_sided[row] = measured[name]
    return Distances(values, one_sided)
