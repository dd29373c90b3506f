"""Pixels of one kind made of those of another, against numbers by hand."""

import numpy as np
import pytest

from imaging.pixels import match_pixels


def test_what_has_the_kind_already_comes_back_itself():
    image = np.zeros((2, 3, 3), np.uint8)
    assert match_pixels(image, 3, "uint8") is image


def test_grey_becomes_three_equal_channels_and_colours_their_luma():
    grey = np.array([[[7], [200]]], np.uint8)
    np.testing.assert_array_equal(match_pixels(grey, 3, "uint8"), [[[7] * 3, [200] * 3]])
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_array_equal(match_pixels(colours, 1, "uint8")[..., 0], [[76, 150, 29, 18]])


@pytest.mark.parametrize("channels", [1, 3])
def test_every_value_of_8_bits_goes_to_16_and_back(channels):
    image = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], channels, 2)
    wide = match_pixels(image, channels, "uint16")
    assert (wide.dtype, wide.min(), wide.max()) == (np.uint16, 0, 65535)
    np.testing.assert_array_equal(match_pixels(wide, channels, "uint8"), image)


def test_16_bits_are_rounded_to_8():
    wide = np.array([[[0], [128], [129], [257], [65535 - 128], [65535 - 129]]], np.uint16)
    np.testing.assert_array_equal(match_pixels(wide, 1, "uint8")[0, :, 0], [0, 0, 1, 1, 255, 254])
