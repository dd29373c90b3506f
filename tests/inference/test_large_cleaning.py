"""Steps on masks that lie on the disk, against those in memory."""

import numpy as np
import pytest
from scipy import ndimage

from inference.large.cleaning import clean_rows
from inference.large.rows import RowFile, even_strips
from inference.postprocess import Steps, clean_mask


def cleaned(mask, folder, postprocess, overlapping, strip_rows) -> np.ndarray:
    height, width = mask.shape
    with RowFile(folder, height, width, mask.dtype, strip_rows) as rows:
        rows.write(0, mask)
        clean_rows(rows, postprocess, overlapping)
        return rows.read(0, height)


def lumps(seed: int, height: int = 90, width: int = 61) -> np.ndarray:
    """float [height, width] from 0 to 1: parts and holes of many sizes above any level."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), 1.2)
    return (smooth - smooth.min()) / np.ptp(smooth)


STEPS = [
    {"opening": 1},
    {"closing": 2},
    {"opening": 2, "closing": 3},
    {"fill_holes": True},
    {"min_size": 25},
    {"largest": True},
    {"opening": 1, "closing": 1, "fill_holes": True, "min_size": 40},
    {"closing": 1, "fill_holes": True, "largest": True},
    {"largest": True, "min_size": 10_000},
]


@pytest.mark.parametrize("steps", STEPS, ids=str)
@pytest.mark.parametrize("strip_rows", [1, 7, 16, 100])
def test_every_step_does_to_strips_what_it_does_to_the_whole(tmp_path, steps, strip_rows):
    for seed in range(3):
        mask = (lumps(seed) > 0.5).astype(np.uint8)
        postprocess = {1: Steps(**steps)}
        expected = clean_mask(mask, postprocess, overlapping=False)
        np.testing.assert_array_equal(cleaned(mask, tmp_path, postprocess, False, strip_rows), expected)
        assert (expected != mask).any()


@pytest.mark.parametrize("overlapping", [False, True])
def test_classes_are_cleaned_one_after_another_as_in_memory(tmp_path, overlapping):
    first, second = lumps(5), lumps(6)
    if overlapping:
        mask = ((first > 0.5) * 1 + (second > 0.4) * 4).astype(np.uint16)
        postprocess = {0: Steps(closing=2, fill_holes=True), 1: Steps(), 2: Steps(opening=1, min_size=20)}
    else:
        mask = np.where(first > 0.55, 1, np.where(second > 0.5, 2, 0)).astype(np.uint8)
        postprocess = {1: Steps(closing=2, fill_holes=True), 2: Steps(closing=1, min_size=30, largest=True)}
    expected = clean_mask(mask, postprocess, overlapping)
    found = cleaned(mask, tmp_path, postprocess, overlapping, 8)
    assert found.dtype == mask.dtype
    np.testing.assert_array_equal(found, expected)


def test_of_equal_parts_the_uppermost_stays(tmp_path):
    mask = np.zeros((20, 20), np.uint8)
    mask[12:14, 2:4] = mask[4:6, 10:12] = 1
    for strip_rows in (2, 5, 20):
        found = cleaned(mask, tmp_path, {1: Steps(largest=True)}, False, strip_rows)
        assert found.sum() == found[4:6, 10:12].sum() == 4


def test_nothing_is_left_on_the_disk(tmp_path):
    cleaned(np.ones((9, 9), np.uint8), tmp_path, {1: Steps(fill_holes=True)}, False, 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [3, 4, 3], [4, 4, 2], [9, 1]])
def test_strips_are_cut_anew(sizes):
    whole = np.arange(30).reshape(10, 3)
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    found = list(even_strips(parts, 4))
    assert [(y, len(rows)) for y, rows in found] == [(0, 4), (4, 4), (8, 2)]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in found]), whole)
