"""Parts of an area in strips, against OpenCV's and SciPy's of the whole."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from imaging.parts import find_parts


def strips_of(area: np.ndarray, rows: int) -> list[np.ndarray]:
    return [area[y : y + rows] for y in range(0, len(area), rows)]


def noise(seed: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random((61, 47)) < share


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 61])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.6])
def test_sizes_are_those_of_the_whole(connectivity, rows, share):
    area = noise(rows, share)
    parts = find_parts(strips_of(area, rows), connectivity)
    _, _, stats, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=connectivity)
    assert sorted(parts.sizes) == sorted(stats[1:, cv2.CC_STAT_AREA])


@pytest.mark.parametrize("rows", [1, 5, 61])
def test_parts_at_the_edge_are_known_and_all_others_are_holes(rows):
    area = noise(rows, 0.55)
    outside = strips_of(~area, rows)
    parts = find_parts(outside, 4)
    holes = np.concatenate(list(parts.keep(outside, ~parts.at_edge)))
    np.testing.assert_array_equal(area | holes, ndimage.binary_fill_holes(area))
    assert holes.any()


def test_only_the_parts_that_shall_stay_do():
    spiral = np.zeros((9, 9), bool)
    spiral[0], spiral[:, 8], spiral[8], spiral[2:, 0], spiral[2, :7] = True, True, True, True, True
    spiral[4:6, 3:6] = True
    strips = strips_of(spiral, 2)
    parts = find_parts(strips, 8)
    assert sorted(parts.sizes) == [6, spiral.sum() - 6]
    found = np.concatenate(list(parts.keep(strips, parts.sizes == 6)))
    assert found.sum() == 6 and found[4:6, 3:6].all()


def test_the_uppermost_part_is_the_first():
    area = np.zeros((8, 8), bool)
    area[5:7, 0] = area[1:3, 6] = area[0, 2:4] = True
    for rows in (1, 3, 8):
        strips = strips_of(area, rows)
        parts = find_parts(strips, 8)
        first = np.concatenate(list(parts.keep(strips, np.arange(3) == 0)))
        np.testing.assert_array_equal(np.argwhere(first), [[0, 2], [0, 3]])


@pytest.mark.parametrize("full", [False, True])
def test_nothing_and_everything(full):
    strips = strips_of(np.full((10, 4), full), 3)
    parts = find_parts(strips, 4)
    assert parts.sizes.tolist() == [40] * full and parts.at_edge.tolist() == [True] * full
    np.testing.assert_array_equal(np.concatenate(list(parts.keep(strips, np.ones(int(full), bool)))), full)
