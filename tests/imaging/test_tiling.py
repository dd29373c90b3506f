import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.tiling import Window, count_tiles, cut, tile_windows


@st.composite
def tilings(draw):
    """Height, width, size, overlap."""
    size = draw(st.integers(1, 9))
    return draw(st.integers(1, 40)), draw(st.integers(1, 40)), size, draw(st.integers(0, size - 1))


def test_windows_by_hand():
    # Rows: 0-4 and, moved back by one, 2-6. Columns: 0-4, 3-7, 6-10.
    assert tile_windows(6, 10, 4, 1) == [Window(y, x, 4, 4) for y in (0, 2) for x in (0, 3, 6)]
    assert tile_windows(4, 4, 4, 3) == [Window(0, 0, 4, 4)]
    assert tile_windows(3, 9, 4, 0) == [Window(0, 0, 4, 4), Window(0, 4, 4, 4), Window(0, 5, 4, 4)]


@settings(max_examples=150, deadline=None)
@given(tilings())
def test_windows_cover_every_pixel_once_listed_in_row_major_order(tiling):
    height, width, size, overlap = tiling
    windows = tile_windows(height, width, size, overlap)
    covered = np.zeros((height, width), bool)
    for window in windows:
        covered[window.y : window.y + size, window.x : window.x + size] = True
    assert covered.all()
    assert windows == sorted(set(windows))


@settings(max_examples=150, deadline=None)
@given(tilings())
def test_windows_are_square_and_stay_inside_along_an_axis_that_is_long_enough(tiling):
    height, width, size, overlap = tiling
    for window in tile_windows(height, width, size, overlap):
        assert (window.height, window.width) == (size, size)
        assert 0 <= window.y <= max(height - size, 0)
        assert 0 <= window.x <= max(width - size, 0)


@settings(max_examples=150, deadline=None)
@given(tilings())
def test_neighbours_share_the_overlap_and_only_the_last_shares_more(tiling):
    height, width, size, overlap = tiling
    windows = tile_windows(height, width, size, overlap)
    for starts in (sorted({w.y for w in windows}), sorted({w.x for w in windows})):
        shared = size - np.diff(starts)
        assert (shared[:-1] == overlap).all()
        assert (shared[-1:] >= overlap).all()


@settings(max_examples=150, deadline=None)
@given(tilings())
def test_the_count_is_that_of_the_windows(tiling):
    count = count_tiles(*tiling)
    assert count == len(tile_windows(*tiling))
    assert isinstance(count, int)


@pytest.mark.parametrize("dtype", [np.int64, np.uint16])
def test_images_of_a_table_are_counted_at_once(dtype):
    heights, widths = np.array([3, 4, 5, 768, 1], dtype), np.array([9, 4, 12, 700, 1], dtype)
    expected = [len(tile_windows(int(h), int(w), 4, 1)) for h, w in zip(heights, widths, strict=True)]
    np.testing.assert_array_equal(count_tiles(heights, widths, 4, 1), expected)


@settings(max_examples=150, deadline=None)
@given(tilings(), st.sampled_from([(), (1,), (3,)]))
def test_tiles_pasted_back_restore_the_image(tiling, channels):
    height, width, size, overlap = tiling
    pixels = np.random.default_rng(0).integers(1, 2**16, (height, width, *channels), dtype=np.uint16)
    # Room for windows that reach beyond the image.
    canvas = np.zeros((max(height, size), max(width, size), *channels), np.uint16)
    for window in tile_windows(height, width, size, overlap):
        tile = cut(pixels, window, 0)
        assert tile.shape == (size, size, *channels)
        assert tile.dtype == np.uint16
        assert tile.flags["C_CONTIGUOUS"]
        canvas[window.y : window.y + size, window.x : window.x + size] = tile
    np.testing.assert_array_equal(canvas[:height, :width], pixels)
    assert not canvas[height:].any()
    assert not canvas[:, width:].any()


def test_what_lies_outside_the_image_is_the_fill():
    mask = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    expected = [[2, 3, 255], [5, 6, 255], [255, 255, 255]]
    np.testing.assert_array_equal(cut(mask, Window(0, 1, 3, 3), 255), expected)
    np.testing.assert_array_equal(cut(mask, Window(1, 0, 1, 2), 255), [[4, 5]])


@pytest.mark.parametrize(("size", "overlap"), [(4, 4), (4, 5), (4, -1), (0, 0), (-2, 0)])
def test_an_overlap_outside_the_tile_is_refused(size, overlap):
    message = f"overlap from 0 to below the tile size of {size} pixels, found {overlap}"
    with pytest.raises(ValueError, match=message):
        tile_windows(10, 10, size, overlap)
    with pytest.raises(ValueError, match=message):
        count_tiles(np.array([10]), np.array([10]), size, overlap)
