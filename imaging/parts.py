"""Connected parts of areas that are never held whole: they come in strips, and parts are joined across them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Parts:
    """The connected parts of an area. Memory: some bytes for each of them.

    Attributes:
      connectivity: 4 or 8 neighbours.
      numbers: int32 [labels], the part to which each label belongs that the strips have by themselves.
      sizes: int64 [parts], pixels.
      at_edge: bool [parts], whether they touch the edge of the image.
    """

    connectivity: int
    numbers: np.ndarray
    sizes: np.ndarray
    at_edge: np.ndarray

    def keep(self, strips: Iterable[np.ndarray], kept: np.ndarray) -> Iterator[np.ndarray]:
        """Yields strips in which only some parts stay.

        Args:
          strips: the same that the parts were found in.
          kept: bool [parts].
        """
        stays, first = kept[self.numbers], 0
        for strip in strips:
            count, labels = _label(strip, self.connectivity)
            yield np.concatenate([[False], stays[first : first + count]])[labels]
            first += count


def find_parts(strips: Iterable[np.ndarray], connectivity: int) -> Parts:
    """Returns the parts of an area, the uppermost first.

    Args:
      strips: bool [rows, width] each, from the top; at least one.
      connectivity: 4 or 8 neighbours.
    """
    sizes, edges, joints, total, above = [], [], [np.zeros((2, 0), np.int64)], 0, None
    for strip in strips:
        count, labels = _label(strip, connectivity)
        labels = np.where(labels > 0, labels + np.int64(total - 1), -1)  # numbered on from strip to strip; -1 outside
        sizes.append(np.bincount(labels[labels >= 0] - total, minlength=count))
        sides = [labels[:, 0], labels[:, -1], *([labels[0]] if above is None else [])]
        edges.append(np.unique(np.concatenate(sides)))
        joints += [] if above is None else _joints(above, labels[0], connectivity)
        above, total = labels[-1].copy(), total + count
    one, other = np.concatenate(joints, axis=1)
    graph = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(total, total))
    num_parts, numbers = connected_components(graph, directed=False) if total else (0, np.zeros(0, np.int32))
    part_sizes, at_edge = np.zeros(num_parts, np.int64), np.zeros(num_parts, bool)
    np.add.at(part_sizes, numbers, np.concatenate(sizes))
    touching = np.unique(np.concatenate([*edges, above]))
    at_edge[numbers[touching[touching >= 0]]] = True
    return Parts(connectivity, numbers, part_sizes, at_edge)


def _label(strip: np.ndarray, connectivity: int) -> tuple[int, np.ndarray]:
    """Returns how many parts a strip has by itself, and their labels int32, from 1; 0 outside."""
    count, labels = cv2.connectedComponents(strip.astype(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S)
    return count - 1, labels


def _joints(above: np.ndarray, below: np.ndarray, connectivity: int) -> list[np.ndarray]:
    """Returns pairs of labels, int64 [2, pairs] each, that touch where two strips meet."""
    pairs = [(above, below)]
    if connectivity == 8:
        pairs += [(above[1:], below[:-1]), (above[:-1], below[1:])]
    stacked = [np.stack(pair) for pair in pairs]
    return [np.unique(pair[:, (pair >= 0).all(0)], axis=1) for pair in stacked]
