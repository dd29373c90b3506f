import numpy as np
import pytest

from imaging.restore import Restored, restore_mask, restore_rows
from imaging.tiling import Window, cut, tile_windows


def restored(parts, windows, height, width, **how) -> np.ndarray:
    image = Restored(height, width, parts[0].shape[-1])
    for part, window in zip(parts, windows, strict=True):
        image.add(part, window)
    return image.finish(**how)


@pytest.mark.parametrize("overlap", [0, 3, 8, 15])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 37), (9, 50), (5, 6)])
def test_parts_of_one_map_give_the_map_again(height, width, overlap):
    whole = np.random.default_rng(0).random((height, width, 3), np.float32)
    windows = tile_windows(height, width, 16, overlap)
    found = restored([cut(whole, window, 9) for window in windows], windows, height, width)
    np.testing.assert_allclose(found, whole, rtol=1e-5)


@pytest.mark.parametrize("value", [0.01, 0.3, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("stretched", [1, 3])
def test_windows_that_agree_leave_no_seam(stretched, value):
    """Not even in the last digit, where a threshold may lie."""
    windows = tile_windows(50, 61, 18, 9)
    parts = [np.full((18 // stretched, 18 // stretched, 1), value, np.float32) for _ in windows]
    np.testing.assert_array_equal(restored(parts, windows, 50, 61), np.float32(value))


def test_shared_pixels_are_the_mean_weighted_by_a_gaussian():
    windows = [Window(0, 0, 1, 8), Window(0, 4, 1, 8)]
    parts = [np.full((1, 8, 1), value, np.float32) for value in (0.0, 1.0)]
    found = restored(parts, windows, 1, 12)[0, :, 0]
    np.testing.assert_array_equal(found[:4], 0)
    np.testing.assert_array_equal(found[8:], 1)
    # Centres at 3.5 and 7.5; sigma is an eighth of 8 pixels. Where a Gaussian is below 1e-3 that is its weight.
    first = [max(np.exp(-0.5 * (place - 3.5) ** 2), 1e-3) for place in range(4, 8)]
    second = [max(np.exp(-0.5 * (place - 7.5) ** 2), 1e-3) for place in range(4, 8)]
    np.testing.assert_allclose(found[4:8], np.divide(second, np.add(first, second)), rtol=1e-5)


def test_a_part_of_another_size_is_stretched_to_its_window():
    part = np.array([[[0.0], [1.0]]], np.float32)
    found = restored([part], [Window(0, 0, 2, 8)], 2, 8)[..., 0]
    # Bilinear, pixel centres on pixel centres: those of the part lie at 1.5 and 5.5.
    np.testing.assert_allclose(found, [[0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]] * 2, atol=1e-6)


def test_many_classes_are_stretched_alike():
    part = np.random.default_rng(0).random((5, 6, 15), np.float32)
    window = [Window(0, 0, 10, 12)]
    each = [restored([part[..., [number]]], window, 10, 12) for number in range(15)]
    np.testing.assert_allclose(restored([part], window, 10, 12), np.concatenate(each, -1), atol=1e-5)


def test_what_no_window_covers_is_refused_or_filled():
    parts, windows = [np.ones((4, 3, 2), np.float32)], [Window(0, 2, 4, 3)]
    with pytest.raises(
        ValueError, match="expected windows that cover the image of 4x5, found some that leave 8 pixels"
    ):
        restored(parts, windows, 4, 5)
    found = restored(parts, windows, 4, 5, empty=np.array([0.25, 0.0], np.float32))
    np.testing.assert_array_equal(found[:, :2], np.broadcast_to([0.25, 0.0], (4, 2, 2)))
    np.testing.assert_array_equal(found[:, 2:], 1)


def test_a_mask_is_put_together_from_its_parts():
    mask = np.random.default_rng(0).integers(0, 9, (20, 35)).astype(np.uint8)
    windows = tile_windows(20, 35, 24, 6)
    parts = [(cut(mask, window, 255), Window(*window[:2], min(24, 20), min(24, 35 - window.x))) for window in windows]
    np.testing.assert_array_equal(restore_mask(parts, 20, 35), mask)


@pytest.mark.parametrize("overlap", [0, 3, 8, 15])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (90, 37), (53, 9), (17, 40), (5, 6)])
def test_rows_that_are_handed_over_early_are_those_of_the_whole_to_the_last_bit(height, width, overlap):
    rng, empty = np.random.default_rng(0), np.array([0.25, 0.5], np.float32)
    windows = [Window(y, x, min(16, height), min(16, width)) for y, x, _, _ in tile_windows(height, width, 16, overlap)]
    parts = [rng.random((window.height, window.width, 2), np.float32) for window in windows]
    silent = rng.random(len(parts)) < 0.3
    whole = Restored(height, width, 2)
    for part, window, nothing in zip(parts, windows, silent, strict=True):
        if not nothing:
            whole.add(part, window)
    told = [None if nothing else part for part, nothing in zip(parts, silent, strict=True)]
    rows = list(restore_rows(zip(told, windows, strict=True), height, width, 2, empty))
    np.testing.assert_array_equal(np.concatenate(rows), whole.finish(empty))
    assert max(map(len, rows)) <= 16


def test_rows_come_before_the_windows_below_are_asked_for():
    windows = tile_windows(64, 16, 16, 8)
    asked = []

    def parts():
        for window in windows:
            asked.append(window.y)
            yield np.ones((16, 16, 1), np.float32), window

    rows = restore_rows(parts(), 64, 16, 1, np.zeros(1, np.float32))
    assert len(next(rows)) == 8 and asked == [0, 8]
    assert len(next(rows)) == 8 and asked == [0, 8, 16]
