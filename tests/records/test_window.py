import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.codec import decode_image, encode_png
from records.schema import encode, parse
from records.window import decode_jpeg_window


def parse_in_a_dataset(serialized, **settings):
    dataset = tf.data.Dataset.from_tensors(serialized).map(lambda one: parse(one, **settings))
    assert dataset.element_spec["image"].shape.as_list() == [None, None, settings["channels"]]
    return next(iter(dataset))


def photo(height: int, width: int) -> np.ndarray:
    """Colours that change from block to block and from pixel to pixel, so that a shift by one shows."""
    generator = np.random.default_rng([height, width])
    blocks = generator.integers(40, 216, [-(-height // 4), -(-width // 4), 3]).repeat(4, 0).repeat(4, 1)
    return (blocks[:height, :width] + generator.integers(-40, 40, [height, width, 3])).astype(np.uint8)


def jpeg(pixels: np.ndarray, subsampling: int, progressive: bool) -> bytes:
    factors = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, subsampling, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    return cv2.imencode(".jpg", pixels, factors)[1].tobytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_window_of_a_jpeg_has_the_pixels_of_the_whole(data):
    height, width = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70)))
    subsampling = data.draw(st.sampled_from([0x111111, 0x211111, 0x221111, 0x121111, 0x411111]))
    file = jpeg(photo(height, width), subsampling, data.draw(st.booleans()))
    for channels in (3, 1):
        whole = tf.io.decode_jpeg(file, channels=channels, dct_method="INTEGER_ACCURATE")
        y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        rows, columns = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
        found = decode_jpeg_window(file, tf.constant([y, x, rows, columns]), tf.constant(width), channels)
        np.testing.assert_array_equal(found, whole[y : y + rows, x : x + columns])


def test_the_narrowest_windows_of_a_jpeg_have_the_pixels_of_the_whole_at_every_column():
    file = jpeg(photo(8, 21), 0x221111, False)
    whole = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
    for columns in range(1, 5):
        for x in range(22 - columns):
            found = decode_jpeg_window(file, tf.constant([3, x, 2, columns]), tf.constant(21), 3)
            np.testing.assert_array_equal(found, whole[3:5, x : x + columns])


@pytest.mark.parametrize("window", [(0, 0, 37, 53), (0, 16, 16, 16), (36, 0, 1, 1), (5, 50, 11, 3), (17, 15, 20, 34)])
def test_records_of_several_formats_give_their_windows(make_record, window):
    pixels, mask = photo(37, 53), (np.arange(37 * 53).reshape(37, 53) % 251).astype(np.uint8)
    sizes = {"height": 37, "width": 53, "mask": encode_png(mask)}
    files = {
        "jpeg": jpeg(pixels, 0x221111, False),
        "png": encode_png(pixels),
        "raw": pixels.tobytes(),
    }
    y, x, rows, columns = window
    for image_format, file in files.items():
        record = make_record("a0", image=file, image_format=image_format, **sizes)
        how = {"channels": 3, "dtype": "uint8", "labeled": True, "raw": image_format == "raw"}
        whole = parse(tf.constant(encode(record)), **how)["image"]
        for parse_one in (parse, parse_in_a_dataset):
            example = parse_one(encode(record), **how, window=lambda mask: tf.constant(window) + 0 * tf.shape(mask)[0])
            np.testing.assert_array_equal(example["image"], whole[y : y + rows, x : x + columns])
            np.testing.assert_array_equal(example["mask"], mask[y : y + rows, x : x + columns])


def test_a_window_of_sixteen_bits_is_cut_too(make_record):
    record = make_record("a0", "png", 1, "uint16")
    example = parse(
        tf.constant(encode(record)), channels=1, dtype="uint16", labeled=True, window=lambda mask: [2, 3, 4, 5]
    )
    np.testing.assert_array_equal(example["image"], decode_image(record.image)[2:6, 3:8])


def test_the_window_is_chosen_by_the_mask(make_record):
    mask = np.zeros([6, 10], np.uint8)
    mask[4, 7] = 1
    record = make_record("a0", "jpeg", mask=encode_png(mask))

    def around_the_only_pixel(mask):
        place = tf.cast(tf.where(mask == 1)[0], tf.int32)
        return tf.concat([place - 1, [3, 3]], 0)

    example = parse_in_a_dataset(encode(record), channels=3, dtype="uint8", labeled=True, window=around_the_only_pixel)
    np.testing.assert_array_equal(example["mask"], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(example["image"], decode_image(record.image)[3:6, 6:9])
