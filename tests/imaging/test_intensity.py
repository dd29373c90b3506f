import colorsys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.intensity import INTENSITIES, CountedIntensity, transform_intensity

CHANGING = [name for name in INTENSITIES if name != "none"]


def random_image(*shape, low=0, high=256, dtype=np.uint8, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114])


def muted_colours() -> np.ndarray:
    """Colours near mid-grey, which no transform here clips, in a smooth luma."""
    y, x = np.mgrid[:64, :64]
    grey = 110 + 0.3 * x + 0.2 * y
    return np.stack([grey + 8 * np.sin(x / 9), grey, grey - 6 * np.cos(y / 7)], -1).round().astype(np.uint8)


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 9, 3), (5, 7, 3), (40, 61, 1), (40, 61, 3)])
def test_shape_and_dtype_stay_the_image_is_not_written_to_and_the_result_repeats(shape, dtype, name):
    image = random_image(*shape, high=np.iinfo(dtype).max + 1, dtype=dtype)
    before = image.copy()
    changed = transform_intensity(image, name)
    assert changed.shape == shape
    assert changed.dtype == dtype
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(transform_intensity(image.copy(), name), changed)


def test_none_returns_the_image_itself():
    image = random_image(4, 5, 3)
    assert transform_intensity(image, "none") is image


@pytest.mark.parametrize("name", INTENSITIES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [[0], [77], [255], [200, 30, 90]])
def test_a_flat_image_stays(colour, dtype, name):
    image = np.full((20, 30, len(colour)), colour, dtype)
    np.testing.assert_array_equal(transform_intensity(image, name), image)


def test_stretch_by_hand():
    # Of the values 0 to 100 the 1st percentile is 1, the 99th 99: the line is (value - 1) * 255 / 98.
    image = np.arange(101, dtype=np.uint8).reshape(1, 101, 1)
    stretched = transform_intensity(image, "stretch")[0, :, 0]
    assert stretched[[0, 1, 2, 50, 99, 100]].tolist() == [0, 0, 3, 128, 255, 255]
    wide = transform_intensity(image.astype(np.uint16) * 300, "stretch")[0, :, 0]
    assert wide[[0, 1, 2, 99, 100]].tolist() == [0, 0, 669, 65535, 65535]  # 65535 / 98 = 668.7


def test_stretch_leaves_an_image_of_one_value_but_for_a_few_pixels():
    image = np.full((50, 50, 1), 40, np.uint8)
    image[3, 4] = 250
    np.testing.assert_array_equal(transform_intensity(image, "stretch"), image)


def test_stretch_follows_one_line_in_all_channels_and_keeps_hues():
    image = muted_colours()
    image[0], image[-1] = 30, 225  # black and white borders hold the percentiles, so that no colour is clipped
    stretched = transform_intensity(image, "stretch")
    expected = np.clip((image - 30.0) * 255 / 195, 0, 255)
    np.testing.assert_allclose(stretched, expected, atol=0.5001)
    for row, column in [(5, 10), (30, 50), (60, 3)]:
        before, after = (colorsys.rgb_to_hsv(*pixels[row, column] / 255)[0] for pixels in (image, stretched))
        assert abs((before - after + 0.5) % 1 - 0.5) < 0.02


def test_equalize_by_hand():
    # Not above 10, 20, 30: 4, 6, 8 of 8 pixels; without the 4 darkest: 0/4, 2/4, 4/4.
    image = np.array([10, 10, 10, 10, 20, 20, 30, 30], np.uint8).reshape(2, 4, 1)
    expected = np.array([0, 0, 0, 0, 128, 128, 255, 255]).reshape(2, 4, 1)
    np.testing.assert_array_equal(transform_intensity(image, "equalize"), expected)
    wide = transform_intensity(image.astype(np.uint16) * 1000, "equalize")
    assert np.unique(wide).tolist() == [0, 32768, 65535]


def test_equalize_gives_16_bits_what_opencv_gives_8():
    image = random_image(40, 50, 1, high=200)
    wide = transform_intensity(image.astype(np.uint16) * 100 + 3, "equalize")
    np.testing.assert_allclose(wide / 257, cv2.equalizeHist(image)[:, :, None], atol=0.51)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 65535), min_size=1, max_size=60), st.booleans(), st.sampled_from(["stretch", "equalize"])
)
def test_stretch_and_equalize_never_swap_the_order_of_grey_values(values, is_wide, name):
    image = np.array(values).reshape(1, -1, 1)
    image = image.astype(np.uint16) if is_wide else (image // 256).astype(np.uint8)
    changed = transform_intensity(image, name)
    ordered = changed[0, np.argsort(image[0, :, 0], kind="stable"), 0].astype(int)
    assert (np.diff(ordered) >= 0).all()


@pytest.mark.parametrize("name", ["equalize", "clahe"])
@pytest.mark.parametrize("scale", [1, 256])
def test_only_the_luma_of_colours_changes(name, scale):
    image = muted_colours().astype(np.uint16 if scale > 1 else np.uint8) * scale
    changed = transform_intensity(image, name)
    inside = ((changed > 0) & (changed < 256 * scale - 1)).all(axis=2)
    assert inside.mean() > 0.5
    moved = changed.astype(int) - image
    np.testing.assert_array_equal(moved[inside, 0], moved[inside, 1])
    np.testing.assert_array_equal(moved[inside, 0], moved[inside, 2])
    assert np.ptp(luma(changed)) > 1.2 * np.ptp(luma(image))


@pytest.mark.parametrize("name", ["equalize", "clahe"])
def test_colours_come_out_as_from_ycrcb_and_back(name):
    image = muted_colours()
    converted = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    converted[:, :, 0] = transform_intensity(converted[:, :, :1].copy(), name)[:, :, 0]
    expected = cv2.cvtColor(converted, cv2.COLOR_YCrCb2RGB)
    # The way back rounds chroma, whose unit is up to 1.8 units of blue.
    np.testing.assert_allclose(transform_intensity(image, name), expected.astype(int), atol=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_clahe_raises_contrast_where_it_is_low_and_limits_it(dtype):
    image = random_image(256, 256, 1, low=100, high=110, dtype=dtype)
    image[:, 128:] += 60
    changed = transform_intensity(image, "clahe")[:, :, 0].astype(float)
    # Left and right halves away from their border; a tile has 32 x 32 pixels.
    limit = 3 if dtype == np.uint8 else 1 + 65536 / 1024
    for half in (slice(0, 96), slice(160, 256)):
        gain = np.ptp(changed[:, half]) / np.ptp(image[:, half])
        assert 1.2 < gain <= limit


def test_clahe_judges_a_grey_value_by_its_surroundings():
    image = random_image(128, 128, 1, low=40, high=61)
    image[:, 64:] += 15
    halves = np.arange(128) < 64
    is_58 = image[:, :, 0] == 58  # bright on the left, dark on the right
    changed = transform_intensity(image, "clahe")[:, :, 0].astype(float)
    assert changed[is_58 & halves].mean() > changed[is_58 & ~halves].mean() + 5
    equalized = transform_intensity(image, "equalize")[:, :, 0]
    assert np.unique(equalized[is_58]).size == 1


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="among none, stretch, equalize, clahe, found 'gamma'"):
        transform_intensity(random_image(2, 2, 1), "gamma")


def in_parts(image: np.ndarray, name: str) -> np.ndarray:
    """Returns the image transformed in strips of 7 rows."""
    counted = CountedIntensity(name, str(image.dtype))
    strips = [image[y : y + 7] for y in range(0, len(image), 7)]
    if counted.counts:
        for strip in strips:
            counted.count(strip)
    return np.concatenate([counted.transform(strip) for strip in strips])


@pytest.mark.parametrize("name", ["none", "stretch", "equalize"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_in_parts_becomes_what_the_whole_does(name, dtype, channels):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scale = [3, 40, 200][seed % 3] * (1 if dtype == "uint8" else 257)
        image = (rng.beta(2, 5, (53 + seed, 31, channels)) * scale).astype(dtype)
        np.testing.assert_array_equal(in_parts(image, name), transform_intensity(image, name))


@pytest.mark.parametrize("name", ["stretch", "equalize"])
def test_an_image_in_parts_of_one_value_stays(name):
    image = np.full((20, 5, 3), 7, np.uint8)
    np.testing.assert_array_equal(in_parts(image, name), image)
    almost = image.copy()
    almost[3, 3] = 9  # both percentiles are still one
    np.testing.assert_array_equal(in_parts(almost, name), transform_intensity(almost, name))


def test_tiles_of_clahe_cannot_come_in_parts():
    with pytest.raises(ValueError, match="expected the intensity none, stretch or equalize .*, found clahe"):
        CountedIntensity("clahe", "uint8")
