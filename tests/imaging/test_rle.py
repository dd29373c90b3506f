import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.rle import count_rle_pixels, decode_rle, encode_objects, encode_rle, parse_rle

# 3 rows, 4 columns; numbered 1 2 3 | 4 5 6 | 7 8 9 | 10 11 12.
EXAMPLE = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1]], np.uint8)
EXAMPLE_RLE = "2 4 12 1"


def plain_decode(text: str, height: int, width: int) -> list[list[int]]:
    numbers = [int(word) for word in text.split()]
    covered = set()
    while numbers:
        start, length, *numbers = numbers
        covered |= set(range(start, start + length))
    return [[int(1 + column * height + row in covered) for column in range(width)] for row in range(height)]


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, np.uint8).reshape(height, width)


@st.composite
def unordered_codes(draw):
    """Text, height and width; the runs overlap and are not sorted."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    starts = draw(st.lists(st.integers(1, height * width), max_size=12))
    runs = [(start, draw(st.integers(1, height * width - start + 1))) for start in starts]
    return " ".join(f"{start} {length}" for start, length in runs), height, width


def test_a_small_example_by_hand():
    mask = decode_rle(EXAMPLE_RLE, 3, 4)
    np.testing.assert_array_equal(mask, EXAMPLE)
    assert mask.dtype == np.uint8
    assert mask.flags["C_CONTIGUOUS"]
    assert encode_rle(EXAMPLE) == EXAMPLE_RLE
    assert count_rle_pixels(EXAMPLE_RLE, 3, 4) == 5
    runs = parse_rle(EXAMPLE_RLE, 3, 4)
    assert (runs.starts.tolist(), runs.lengths.tolist()) == ([1, 11], [4, 1])
    assert runs.starts.dtype == runs.lengths.dtype == np.int64


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (np.zeros((3, 5)), ""),
        (np.ones((3, 5)), "1 15"),
        (np.ones((1, 1)), "1 1"),
        (np.eye(2, 3), "1 1 4 1"),
        (np.array([[0, 0, 0], [0, 0, 255]]), "6 1"),
        (np.array([[False, True], [False, True]]), "3 2"),
    ],
    ids=["empty", "full", "one_pixel", "diagonal", "last_pixel", "booleans"],
)
def test_masks_at_the_limits(mask, text):
    assert encode_rle(mask) == text
    np.testing.assert_array_equal(decode_rle(text, *mask.shape), mask != 0)
    assert count_rle_pixels(text, *mask.shape) == np.count_nonzero(mask)


@settings(max_examples=100, deadline=None)
@given(masks())
def test_a_mask_survives_the_code_which_is_sorted_and_as_short_as_can_be(mask):
    text = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(text, *mask.shape), mask)
    assert count_rle_pixels(text, *mask.shape) == mask.sum()
    runs = parse_rle(text, *mask.shape)
    # A gap between any two runs, or they would be one.
    assert (runs.starts[1:] > (runs.starts + runs.lengths)[:-1]).all()


@settings(max_examples=100, deadline=None)
@given(unordered_codes())
def test_runs_in_any_order_and_overlap_decode_as_a_plain_decoder_says(code):
    expected = plain_decode(*code)
    np.testing.assert_array_equal(decode_rle(*code), expected)
    assert count_rle_pixels(*code) == np.sum(expected)


def test_the_order_of_memory_does_not_change_the_code():
    assert encode_rle(np.asfortranarray(EXAMPLE)) == EXAMPLE_RLE
    assert encode_rle(np.repeat(EXAMPLE, 2, axis=1)[:, ::2]) == EXAMPLE_RLE


@pytest.mark.parametrize("text", ["2 4 12 1 ", "  2  4 12 1", "2 4\n12\t1", "2\u00a04 12 1", "002 4 12 01"])
def test_any_white_space_separates_numbers(text):
    np.testing.assert_array_equal(decode_rle(text, 3, 4), EXAMPLE)


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_no_text_is_no_run(text):
    assert not decode_rle(text, 3, 4).any()
    assert count_rle_pixels(text, 3, 4) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 4 12", "in pairs of start and length, found 3 numbers, the last is '12' without"),
        ("1.5 2", "whole numbers, found '1.5'"),
        ("2 -3", "whole numbers, found '-3'"),
        ("+2 3", r"whole numbers, found '\+2'"),
        ("nan", "whole numbers, found 'nan'"),
        ("1_0 2", "whole numbers, found '1_0'"),
        ("1,2", "whole numbers, found '1,2'"),
        ("٣ 2", "whole numbers, found '٣'"),
        ("² 2", "whole numbers, found '²'"),
        ("1 2 0 3", r"numbered from 1, found run 2 \(start 0, length 3\)"),
        ("1 2 5 0", r"at least 1 pixel, found run 2 \(start 5, length 0\)"),
        ("1 2 12 2", r"inside the 12 pixels of height 3 x width 4, found run 2 \(start 12, length 2\)"),
        ("13 1", r"inside the 12 pixels .* found run 1 \(start 13, length 1\)"),
        # Beyond 64 bits, alone and in a sum.
        ("36893488147419103233 1", r"inside the 12 pixels .* \(start 36893488147419103233, length 1\)"),
        ("2 9223372036854775807", r"inside the 12 pixels .* \(start 2, length 9223372036854775807\)"),
    ],
)
@pytest.mark.parametrize("function", [parse_rle, decode_rle, count_rle_pixels])
def test_a_wrong_code_is_refused_and_quoted(function, text, message):
    with pytest.raises(ValueError, match=message):
        function(text, 3, 4)


def test_real_ship_annotations_survive_and_keep_their_counts():
    folder = os.environ.get("SEGMENTATION_DATA")
    table = Path(folder or "", "airbus", "train_ship_segmentations_v2.csv")
    if not folder or not table.exists():
        pytest.skip("SEGMENTATION_DATA names no folder with airbus/train_ship_segmentations_v2.csv")
    with table.open(newline="") as file:
        codes = [row["EncodedPixels"] for row in csv.DictReader(file)]
    assert any(codes)
    for code in codes:
        mask = decode_rle(code, 768, 768)
        lengths = [int(word) for word in code.split()[1::2]]
        assert mask.sum() == count_rle_pixels(code, 768, 768) == sum(lengths)
        assert encode_rle(mask) == code


def test_objects_of_a_map_are_coded_in_the_order_of_their_numbers():
    instances = np.array([[2, 0, 7], [2, 7, 7], [0, 7, 2]], np.int32)
    assert encode_objects(instances) == ["1 2 9 1", "5 4"]


@given(st.integers(1, 9), st.integers(1, 9), st.data())
@settings(max_examples=60)
def test_the_code_of_each_object_is_that_of_its_mask(height, width, data):
    numbers = data.draw(st.lists(st.integers(0, 4), min_size=height * width, max_size=height * width))
    instances = np.array(numbers, np.uint16).reshape(height, width)
    present = [number for number in range(1, 5) if number in numbers]
    assert encode_objects(instances) == [encode_rle(instances == number) for number in present]
