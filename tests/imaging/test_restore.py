import numpy as np
import pytest

from imaging.resize import resize_mask
from imaging.restore import restore_mask
from imaging.tiling import Window, cut, tile_windows


def test_a_whole_image_is_stretched_back_to_its_size():
    part = np.array([[1, 2], [3, 4]], np.uint8)
    expected = [[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4], [3, 3, 3, 4, 4, 4]]
    restored = restore_mask([part], [Window(0, 0, 4, 6)], 4, 6)
    np.testing.assert_array_equal(restored, expected)
    assert restored.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(20, 50), (16, 16), (5, 40), (33, 7), (3, 3)])
@pytest.mark.parametrize("overlap", [0, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_of_an_image_give_the_image_back(height, width, overlap, dtype):
    mask = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, [height, width]).astype(dtype)
    windows = tile_windows(height, width, 16, overlap)
    restored = restore_mask([cut(mask, window, 9) for window in windows], windows, height, width)
    np.testing.assert_array_equal(restored, mask)
    assert restored.dtype == dtype


def test_a_shrunken_mask_without_detail_comes_back_as_it_was():
    mask = np.random.default_rng(0).integers(0, 3, [6, 10]).astype(np.uint8).repeat(8, axis=0).repeat(4, axis=1)
    windows = [Window(0, 0, 32, 40), Window(16, 0, 32, 40)]
    parts = [resize_mask(cut(mask, window, 0), 4, 10) for window in windows]
    np.testing.assert_array_equal(restore_mask(parts, windows, 48, 40), mask)


def test_where_windows_share_pixels_the_first_counts():
    parts = [np.full((2, 3), value, np.uint8) for value in (1, 2)]
    restored = restore_mask(parts, [Window(0, 0, 2, 3), Window(0, 2, 2, 3)], 2, 5)
    np.testing.assert_array_equal(restored, [[1, 1, 1, 2, 2]] * 2)


def test_an_image_that_is_not_covered_is_refused():
    with pytest.raises(ValueError, match=r"cover the image of 4x5, found 1 that leave 8 pixels open"):
        restore_mask([np.ones((4, 3), np.uint8)], [Window(0, 2, 4, 3)], 4, 5)
