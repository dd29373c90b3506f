import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from preprocess.sources.segmentation import count_pixels, decode_segmentation


def test_run_lengths_go_down_the_columns_and_begin_with_zeros():
    code = {"size": [2, 3], "counts": [1, 2, 3]}
    assert decode_segmentation(code, 2, 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert count_pixels(code, 2, 3) == 2
    assert decode_segmentation({"size": [2, 3], "counts": [0, 6]}, 2, 3).all()


def test_polygons_of_one_object_are_united_and_cut_at_the_edge():
    left, right = [0, 0, 2, 0, 2, 2, 0, 2], [1, 0, 9, 0, 9, 2, 1, 2]
    assert decode_segmentation([left], 3, 5).tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert decode_segmentation([left, right], 3, 5).tolist() == [[1] * 5, [1] * 5, [0] * 5]
    assert count_pixels([left, right], 3, 5) == 10


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(1, 90), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_compressed_code_decodes_to_the_mask_it_was_made_of(height, width, share, seed):
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    code = coco_mask.encode(np.asfortranarray(mask))
    segmentation = {"size": [height, width], "counts": code["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(segmentation, height, width), mask)
    assert count_pixels(segmentation, height, width) == mask.sum()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_code_made_of_anything_is_a_mask_or_a_value_error(text):
    try:
        assert decode_segmentation({"size": [3, 4], "counts": text}, 3, 4).shape == (3, 4)
    except ValueError as error:
        assert "expected" in str(error)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected polygons or run-length code, found None"),
        ([], "expected polygons or run-length code, found none"),
        ([[1, 1, 3, 1, 3]], "expected a polygon of at least 3 points, found 5 coordinates"),
        ([[1, 1, 3, 1]], "expected a polygon of at least 3 points, found 4 coordinates"),
        ([[1, 1, 3, 1, 3, 3], [1, 1, 3, 1, 3, 1e9]], "in an image of 4x6, found the coordinate 1000000000.0"),
        ([[1, 1, 3, 1, 3, float("nan")]], "found the coordinate nan"),
        ([[1, 1, 3, 1, 3, "2"]], "expected a polygon, a list of numbers"),
        ([1, 1, 3, 1, 3, 3], "expected a polygon, a list of numbers x, y, x, y, ..., found 1"),
        ({"size": [6, 4], "counts": [24]}, r"expected run-length code of size \[4, 6\], found \[6, 4\]"),
        ({"size": [4, 6], "counts": [3, 4]}, "expected counts that add up to 24 pixels, found 7"),
        ({"size": [4, 6], "counts": [30, -6]}, r"expected counts of pixels, found \[30, -6\]"),
        ({"size": [4, 6], "counts": [12.0, 12]}, "expected counts of pixels, found"),
        ({"size": [4, 6], "counts": "03 2"}, "expected compressed run-length code, found ' ' at position 2"),
        ({"size": [4, 6], "counts": "o" * 12}, "expected compressed run-length code, found 'o' at position 9"),
        ({"size": [4, 6], "counts": "0P"}, "expected compressed run-length code, found one that is cut off"),
        ({"size": [4, 6], "counts": "1O"}, r"expected counts of pixels, found \[1, -1\]"),
        ({"size": [4, 6]}, "expected polygons or run-length code, found"),
    ],
)
def test_what_is_wrong_with_a_segmentation_is_said(segmentation, message):
    for look in (decode_segmentation, count_pixels):
        with pytest.raises(ValueError, match=message):
            look(segmentation, 4, 6)
