import hashlib

import cv2
import numpy as np
import pytest

from imaging.codec import decode_image, decode_mask, encode_png
from imaging.intensity import transform_intensity
from imaging.resize import resize_image
from preprocess.config import PreprocessConfig
from preprocess.convert import Target, convert, open_item
from preprocess.raw import RawFiles
from preprocess.sources.item import Item
from records.schema import IGNORE, decode_pixels

RGB, GREY = Target(3, "uint8"), Target(1, "uint8")


def run(tmp_path, image, mask, target, crop=None, **settings):
    """Converts one image of the folder layout, or a crop; image and mask are arrays or file contents."""
    for name, content in (("images", image), ("masks", mask)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "a").write_bytes(content if isinstance(content, bytes) else encode_png(content))
    item = Item("a", "images/a", "masks/a", crop=crop)
    files, config = RawFiles(str(tmp_path)), PreprocessConfig(**settings)
    sha256 = hashlib.sha256((tmp_path / "images" / "a").read_bytes()).hexdigest()
    opened = open_item("folder", files, item, sha256, files.content_hash("masks/a"), config)
    return convert(opened, item, "g", target, config)


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def jpeg(pixels):
    done, data = cv2.imencode(".jpg", pixels)
    assert done
    return data.tobytes()


def test_a_png_at_native_size_keeps_every_pixel(tmp_path):
    image, mask = noise(5, 7, 3), np.eye(5, 7, dtype=np.uint8) * 255
    record = run(tmp_path, image, mask, RGB, size=None).record
    np.testing.assert_array_equal(decode_image(record.image), image)
    np.testing.assert_array_equal(decode_mask(record.mask), np.eye(5, 7, dtype=np.uint8))
    assert (record.height, record.width, record.channels, record.crop) == (5, 7, 3, (0, 0, 5, 7))
    assert (record.source_id, record.filename, record.group, record.objects) == ("a", "images/a", "g", None)


def test_a_jpeg_that_needs_no_change_passes_through_byte_for_byte(tmp_path):
    data = jpeg(noise(16, 24, 3))
    record = run(tmp_path, data, np.zeros((16, 24), np.uint8), RGB, size=None).record
    assert (record.image, record.image_format) == (data, "jpeg")


def test_a_jpeg_that_is_resized_or_becomes_rgb_is_stored_without_further_loss(tmp_path):
    data = jpeg(noise(16, 16))
    for settings in ({"size": 8}, {"size": None}):
        converted = run(tmp_path, data, np.zeros((16, 16), np.uint8), RGB, **settings)
        assert converted.record.image_format == "png"
        np.testing.assert_array_equal(decode_image(converted.record.image), converted.image)
    np.testing.assert_array_equal(converted.image, np.repeat(decode_image(data), 3, axis=2))


def test_a_tiff_becomes_a_png(tmp_path):
    image = noise(4, 6, dtype=np.uint16)
    done, data = cv2.imencode(".tif", image)
    assert done
    record = run(tmp_path, data.tobytes(), np.zeros((4, 6), np.uint8), Target(1, "uint16"), size=None).record
    assert record.image_format == "png"
    np.testing.assert_array_equal(decode_image(record.image)[:, :, 0], image)


def test_eight_bit_images_fill_the_range_of_a_sixteen_bit_dataset(tmp_path):
    image = np.array([[0, 1], [128, 255]], np.uint8)
    converted = run(tmp_path, image, np.zeros((2, 2), np.uint8), Target(1, "uint16"), size=None)
    assert converted.image[:, :, 0].tolist() == [[0, 257], [128 * 257, 65535]]


def test_shrinking_averages_the_image_and_picks_from_the_mask(tmp_path):
    image = np.kron(np.array([[0, 100], [200, 40]], np.uint8), np.ones((4, 4), np.uint8))
    image[0, 0] = 160  # its block's mean becomes 10
    mask = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((4, 4), np.uint8))
    converted = run(tmp_path, image, mask, GREY, size=2)
    assert converted.image[:, :, 0].tolist() == [[10, 100], [200, 40]]
    assert converted.mask.tolist() == [[0, 1], [1, 0]]
    assert (converted.record.original_height, converted.record.original_width) == (8, 8)


def test_a_damaged_image_is_named(tmp_path):
    with pytest.raises(ValueError, match="images/a: the PNG is truncated"):
        run(tmp_path, encode_png(noise(8, 8, 3))[:-30], np.zeros((8, 8), np.uint8), RGB)


def test_unlabelled_images_have_no_mask_and_need_none(tmp_path):
    record = run(tmp_path, noise(4, 4, 3), b"not even read", RGB, size=None, unlabeled=True).record
    assert (record.mask, record.instances, record.objects) == (None, None, None)


def test_every_coding_holds_the_resized_pixels(tmp_path):
    image, mask = noise(12, 20, 3), np.zeros((12, 20), np.uint8)
    expected = resize_image(image, 8, 8)
    for coding, name in (("png", "png"), ("raw", "raw"), ("keep", "png")):
        record = run(tmp_path, image, mask, RGB, size=8, coding=coding).record
        assert record.image_format == name
        np.testing.assert_array_equal(decode_pixels(record, "uint8"), expected)
    record = run(tmp_path, image, mask, RGB, size=8, coding="jpeg", jpeg_quality=100).record
    assert record.image_format == "jpeg"
    error = np.abs(decode_image(record.image).astype(int) - expected).mean()
    assert error < 30 < np.abs(expected[::-1].astype(int) - expected).mean()  # noise is what JPEG does worst


def test_coding_png_stores_a_jpeg_of_the_right_size_as_png(tmp_path):
    data = jpeg(noise(8, 8, 3))
    record = run(tmp_path, data, np.zeros((8, 8), np.uint8), RGB, size=None, coding="png").record
    assert record.image_format == "png"
    np.testing.assert_array_equal(decode_image(record.image), decode_image(data))


def test_raw_sixteen_bit_pixels_are_little_endian(tmp_path):
    image = np.array([[1, 258]], np.uint16)
    record = run(tmp_path, image, np.zeros((1, 2), np.uint8), Target(1, "uint16"), size=None, coding="raw").record
    assert record.image == bytes([1, 0, 2, 1])


def test_a_tile_holds_its_window_of_image_and_mask(tmp_path):
    image, mask = noise(10, 12, 3), noise(10, 12) // 128
    converted = run(tmp_path, image, mask, RGB, crop=(2, 4, 8, 8), size=8, tile=True)
    np.testing.assert_array_equal(converted.image, image[2:10, 4:12])
    np.testing.assert_array_equal(converted.mask, mask[2:10, 4:12])
    record = converted.record
    assert (record.crop, record.original_height, record.original_width) == ((2, 4, 8, 8), 10, 12)


def test_a_tile_beyond_the_image_has_its_darkest_value_and_is_ignored_there(tmp_path):
    image, mask = np.full((3, 5, 3), 9, np.uint8), np.ones((3, 5), np.uint8)
    image[1, 1, 1] = 4
    converted = run(tmp_path, image, mask, RGB, crop=(0, 0, 8, 8), size=8, tile=True)
    np.testing.assert_array_equal(converted.image[:3, :5], image)
    assert set(np.unique(converted.image[3:])) == set(np.unique(converted.image[:, 5:])) == {4}
    assert (converted.mask[:3, :5] == 1).all()
    assert (converted.mask[3:] == IGNORE).all()
    assert (converted.mask[:, 5:] == IGNORE).all()


def test_intensity_is_transformed_before_anything_is_cut_or_resized(tmp_path):
    image = noise(16, 16, 3) // 4 + 60
    whole = transform_intensity(image, "equalize")
    converted = run(tmp_path, image, np.zeros((16, 16), np.uint8), RGB, size=8, intensity="equalize")
    np.testing.assert_array_equal(converted.image, resize_image(whole, 8, 8))
    tile = run(
        tmp_path, image, np.zeros((16, 16), np.uint8), RGB, (8, 0, 8, 8), size=8, tile=True, intensity="equalize"
    )
    np.testing.assert_array_equal(tile.image, whole[8:, :8])


def test_what_changed_since_the_index_is_named(tmp_path):
    run(tmp_path, noise(4, 4, 3), np.zeros((4, 4), np.uint8), RGB)
    item, config = Item("a", "images/a", "masks/a"), PreprocessConfig()
    files = RawFiles(str(tmp_path))
    sha256 = hashlib.sha256((tmp_path / "images" / "a").read_bytes()).hexdigest()
    mask_hash = files.content_hash("masks/a")
    (tmp_path / "masks" / "a").write_bytes(encode_png(np.ones((4, 4), np.uint8)))
    with pytest.raises(ValueError, match="masks/a: changed since it was indexed; preprocess again"):
        open_item("folder", files, item, sha256, mask_hash, config)
    (tmp_path / "images" / "a").write_bytes(encode_png(noise(4, 4)))
    with pytest.raises(ValueError, match="images/a: changed since it was indexed"):
        open_item("folder", files, item, sha256, mask_hash, config)
