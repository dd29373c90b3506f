"""Image files decoded by TensorFlow's operations and by our own codec: the same pixels."""

import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imaging.codec import decode_image, encode_jpeg, encode_png
from imaging.pixels import match_pixels
from imaging.resize import resize_image
from serving.formats.decoding import decode_files, pad_images


def pixels_of(channels: int, dtype: str, size=(20, 30)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, [*size, channels], dtype, True)


def palette_png(mode: str) -> bytes:
    """A PNG of Pillow's modes: P, LA, RGBA."""
    file = io.BytesIO()
    Image.fromarray(pixels_of(3, "uint8")).convert(mode).save(file, "PNG")
    return file.getvalue()


FILES = {
    "grey": encode_png(pixels_of(1, "uint8")),
    "colours": encode_png(pixels_of(3, "uint8")),
    "grey of 16 bits": encode_png(pixels_of(1, "uint16")),
    "colours of 16 bits": encode_png(pixels_of(3, "uint16")),
    "JPEG": encode_jpeg(pixels_of(3, "uint8"), 80),
    "grey JPEG": encode_jpeg(pixels_of(1, "uint8"), 80),
    "palette": palette_png("P"),
    "grey and alpha": palette_png("LA"),
    "alpha": palette_png("RGBA"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_files_have_the_pixels_that_our_codec_finds(name, channels, dtype):
    expected = match_pixels(decode_image(FILES[name]), channels, dtype)
    found = decode_files(tf.constant([FILES[name]] * 2), None, None, channels, dtype).numpy()
    assert found.dtype == dtype
    most = 0
    if channels == 1 and "grey" not in name and ("16 bits" in name) == (dtype == "uint8"):
        most = 1 if dtype == "uint8" else 128  # half a step of 8 bits: rounded at 16 bits, not at 8
    assert np.abs(found[0].astype(int) - expected).max() <= most
    np.testing.assert_array_equal(found[1], found[0])
    same_size = decode_files(tf.constant([FILES[name]]), 20, 30, channels, dtype).numpy()
    np.testing.assert_array_equal(same_size[0], found[0])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shrunk_images_equal_opencvs_and_enlarged_ones_nearly(dtype):
    image = cv2.GaussianBlur(pixels_of(3, dtype, (60, 90)), (0, 0), 1)
    for size, most in (((30, 45), 0), ((20, 30), 0), ((60, 45), 0), ((60, 90), 0), ((96, 128), 2), ((96, 45), 2)):
        found = decode_files(tf.constant([encode_png(image)]), *size, 3, dtype).numpy()[0]
        differences = np.abs(found.astype(int) - resize_image(image, *size))
        assert differences.max() <= most, size


def test_images_become_multiples_with_0_or_their_darkest_value():
    images = np.stack([np.full([3, 4, 1], 7), np.full([3, 4, 1], 9)]).astype(np.uint8)
    for darkest, fills in ((True, (7, 9)), (False, (0, 0))):
        padded = pad_images(tf.constant(images), 4, darkest).numpy()
        assert padded.shape == (2, 4, 4, 1)
        np.testing.assert_array_equal(padded[:, :3], images)
        assert [set(image[3].ravel()) for image in padded] == [{fill} for fill in fills]


@pytest.mark.parametrize("data", [b"", b"no image", FILES["colours"][:60], FILES["JPEG"][:60]])
def test_what_is_no_image_is_an_error_and_nothing_is_made_up(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_files(tf.constant([data]), 20, 30, 3, "uint8")
