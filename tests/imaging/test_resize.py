import cv2
import numpy as np
import pytest

from imaging.resize import resize_image, resize_mask


def disk(height: int, width: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (((rows - y) ** 2 + (columns - x) ** 2) <= radius**2).astype(np.uint8) * 255


def centroid(weights: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(rows * weights).sum(), (columns * weights).sum()], float) / weights.sum()


@pytest.mark.parametrize(
    ("height", "width"),
    [(30, 40), (18, 24), (33, 47), (180, 240), (137, 271), (270, 360), (30, 240)],
    ids=["third", "fifth", "odd_shrink", "double", "odd_enlarge", "triple", "shrink_and_enlarge"],
)
def test_a_mask_stays_on_its_image(height, width):
    # Near a corner: a filter that aligns corners or takes each block's first pixel would move it.
    image = disk(90, 120, 21.3, 96.8, 15)
    small_image = resize_image(image[:, :, None], height, width)[:, :, 0].astype(float)
    small_mask = resize_mask(image, height, width).astype(float)
    # A pixel's centre lies at +0.5.
    expected = (centroid(image) + 0.5) * [height / 90, width / 120] - 0.5
    np.testing.assert_allclose(centroid(small_image), expected, atol=0.1)
    np.testing.assert_allclose(centroid(small_mask), expected, atol=0.2)
    np.testing.assert_allclose(centroid(small_mask), centroid(small_image), atol=0.2)


def test_the_filter_that_is_not_used_would_fail_the_test_above():
    image = disk(90, 120, 21.3, 96.8, 15)
    wrong = cv2.resize(image, (24, 18), interpolation=cv2.INTER_NEAREST).astype(float)
    expected = (centroid(image) + 0.5) * 0.2 - 0.5
    assert np.abs(centroid(wrong) - expected).max() > 0.2


@pytest.mark.parametrize(("height", "width"), [(31, 40), (13, 97), (65, 21), (130, 194), (7, 5)])
def test_a_resized_mask_takes_the_pixel_that_lies_at_each_centre(height, width):
    mask = np.random.default_rng(0).integers(0, 256, (65, 97), dtype=np.uint8)
    rows = np.floor((np.arange(height) + 0.5) * 65 / height).astype(int)
    columns = np.floor((np.arange(width) + 0.5) * 97 / width).astype(int)
    np.testing.assert_array_equal(resize_mask(mask, height, width), mask[np.ix_(rows, columns)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resizing_a_mask_makes_no_new_labels(dtype):
    labels = np.array([0, 3, 200, 255] if dtype == np.uint8 else [0, 300, 40000, 65535], dtype)
    mask = np.kron(labels[np.random.default_rng(1).integers(0, 4, (5, 7))], np.ones((9, 9), dtype))
    for height, width in ((17, 50), (90, 31), (100, 200)):
        resized = resize_mask(mask, height, width)
        assert resized.dtype == dtype
        assert resized.shape == (height, width)
        # Blocks of nine pixels are wide enough for each to be hit.
        assert set(np.unique(resized)) == set(np.unique(mask))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shrinking_an_image_gives_the_mean_of_each_block(channels, dtype):
    image = np.random.default_rng(2).integers(0, np.iinfo(dtype).max + 1, (24, 30, channels), dtype=dtype)
    mean = image.reshape(8, 3, 6, 5, channels).mean(axis=(1, 3))
    shrunk = resize_image(image, 8, 6)
    assert shrunk.dtype == dtype
    # Each axis rounds once.
    np.testing.assert_allclose(shrunk, mean, atol=1.01)


def test_shrinking_one_axis_leaves_the_other():
    image = np.random.default_rng(3).integers(0, 256, (24, 30, 1), dtype=np.uint8)
    np.testing.assert_allclose(resize_image(image, 8, 30), image.reshape(8, 3, 30, 1).mean(1), atol=0.51)
    np.testing.assert_allclose(resize_image(image, 24, 10), image.reshape(24, 10, 3, 1).mean(2), atol=0.51)


def test_an_axis_that_shrinks_is_averaged_even_where_the_other_grows():
    columns = np.tile(np.array([0, 200], np.uint8), 12)  # the mean of any two neighbours is 100
    image = np.tile(columns, (5, 1))[:, :, None]
    np.testing.assert_array_equal(resize_image(image, 10, 12), np.full((10, 12, 1), 100))


def test_enlarging_an_image_is_bilinear():
    image = np.array([[0, 100]], np.uint8)[:, :, None]
    # Centres of the new pixels lie at -0.25, 0.25, 0.75 and 1.25 of the old grid.
    np.testing.assert_array_equal(resize_image(image, 1, 4)[0, :, 0], [0, 25, 75, 100])


def test_the_same_size_changes_nothing():
    image = np.random.default_rng(4).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert resize_image(image, 5, 7) is image
    assert resize_mask(image[:, :, 0], 5, 7).tolist() == image[:, :, 0].tolist()


def test_a_non_square_target_is_height_then_width():
    image = np.zeros((40, 20, 3), np.uint8)
    image[:20] = 255  # upper half
    shrunk = resize_image(image, 10, 4)
    assert shrunk.shape == (10, 4, 3)
    assert (shrunk[:5] == 255).all()
    assert (shrunk[5:] == 0).all()
    np.testing.assert_array_equal(resize_mask(image[:, :, 0], 10, 4), shrunk[:, :, 0])
