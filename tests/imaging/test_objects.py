import numpy as np
import pytest

from imaging.objects import label_objects, merge_objects


def box(top: int, left: int, bottom: int, right: int, shape=(6, 8)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


@pytest.mark.parametrize("large_first", [True, False])
def test_the_smaller_object_lies_on_top_and_lost_pixels_are_counted(large_first):
    large, small = box(0, 0, 4, 5), box(2, 3, 5, 6)  # 20 and 9 pixels, 4 of them shared
    masks = [large, small] if large_first else [small, large]
    merged = merge_objects(masks, 6, 8)
    expected = np.zeros((6, 8), np.uint16)
    expected[0:4, 0:5] = 1 if large_first else 2
    expected[2:5, 3:6] = 2 if large_first else 1
    np.testing.assert_array_equal(merged.instances, expected)
    assert merged.instances.dtype == np.uint16
    assert (merged.count, merged.lost_pixels) == (2, 4)


def test_objects_apart_lose_nothing_and_are_numbered_in_their_order():
    merged = merge_objects([box(4, 0, 6, 2), box(0, 0, 1, 8), box(3, 5, 6, 8)], 6, 8)
    assert merged.instances[5, 0] == 1
    assert merged.instances[0, 7] == 2
    assert merged.instances[4, 6] == 3
    assert np.bincount(merged.instances.ravel()).tolist() == [48 - 4 - 8 - 9, 4, 8, 9]
    assert (merged.count, merged.lost_pixels) == (3, 0)


def test_an_empty_mask_is_no_object_and_takes_no_number():
    merged = merge_objects([box(0, 0, 0, 0), box(0, 0, 2, 2), box(0, 0, 0, 0), box(4, 4, 6, 6)], 6, 8)
    assert merged.instances[0, 0] == 1
    assert merged.instances[5, 5] == 2
    assert (merged.count, merged.lost_pixels) == (2, 0)


def test_no_masks_give_an_empty_map():
    merged = merge_objects(iter([]), 3, 5)
    np.testing.assert_array_equal(merged.instances, np.zeros((3, 5)))
    assert (merged.count, merged.lost_pixels) == (0, 0)


def test_any_value_but_zero_is_foreground():
    mask = np.array([[0, 1, 128], [0, 255, 0]], np.uint8)
    np.testing.assert_array_equal(merge_objects([mask], 2, 3).instances, [[0, 1, 1], [0, 1, 0]])


def test_a_hidden_object_still_counts_and_all_its_pixels_are_lost():
    # Of equal areas the later one lies on top.
    merged = merge_objects([box(1, 1, 3, 3), box(1, 1, 3, 3)], 6, 8)
    assert set(np.unique(merged.instances)) == {0, 2}
    assert (merged.count, merged.lost_pixels) == (2, 4)


def test_numbers_above_255_are_kept():
    masks = (box(number // 20, number % 20, number // 20 + 1, number % 20 + 1, (15, 20)) for number in range(300))
    merged = merge_objects(masks, 15, 20)
    np.testing.assert_array_equal(merged.instances.ravel(), np.arange(1, 301))
    assert (merged.count, merged.lost_pixels) == (300, 0)


def test_an_object_with_holes_and_parts_keeps_its_shape():
    ring = box(0, 0, 5, 5)
    ring[2, 2] = 0
    ring[5, 7] = 9
    inside = box(2, 2, 3, 3)
    merged = merge_objects([ring, inside], 6, 8)
    expected = (ring != 0).astype(int)
    expected[2, 2] = 2
    np.testing.assert_array_equal(merged.instances, expected)
    assert merged.lost_pixels == 0


def test_more_objects_than_16_bits_number_are_refused():
    dot = np.ones((1, 1), np.uint8)
    with pytest.raises(ValueError, match="expected at most 65535 objects, found 65536"):
        merge_objects((dot for _ in range(65536)), 1, 1)


def disks(*centres: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[:40, :60]
    return np.any([(rows - y) ** 2 + (columns - x) ** 2 <= 64 for y, x in centres], axis=0)


def test_touching_disks_are_told_apart_and_nothing_of_the_area_is_lost():
    area = disks((20, 15), (20, 29), (8, 50))
    together, apart = label_objects(area), label_objects(area, split=5)
    assert (together.max(), apart.max()) == (2, 3)
    np.testing.assert_array_equal(apart > 0, area)
    assert len({apart[20, 15], apart[20, 29], apart[8, 50]}) == 3
    assert label_objects(area, split=20).max() == 2


@pytest.mark.parametrize("shape", [(15, 1), (1, 15), (2, 9), (6, 7), (30, 31)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_splitting_covers_the_area_and_joins_no_parts(shape, share):
    area = np.random.default_rng(0).random(shape) < share
    together, apart = label_objects(area), label_objects(area, split=2)
    np.testing.assert_array_equal(apart > 0, area)
    for number in range(1, apart.max() + 1):
        assert len(np.unique(together[apart == number])) == 1
