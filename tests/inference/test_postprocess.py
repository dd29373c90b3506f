"""From thresholded areas to masks: every step against what it should do, and the file that keeps them."""

import dataclasses
import json

import numpy as np
import pytest
from skimage import morphology

from inference.postprocess import Steps, clean_mask, read_postprocess, stretch, write_postprocess


def area(*rows: str) -> np.ndarray:
    """bool [height, width] of a picture: # is inside."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


SPECKLED = area(
    "#.........",
    "..####....",
    "..#..#..##",
    "..#..#..##",
    "..####....",
    "..........",
    "......#...",
    ".......#..",
)


def test_without_settings_nothing_changes():
    assert not Steps().cleans and not Steps(0.3, split=5).cleans
    np.testing.assert_array_equal(Steps().clean(SPECKLED), SPECKLED)


def test_small_parts_are_left_out_and_corners_connect():
    found = Steps(min_size=3).clean(SPECKLED)
    expected = SPECKLED.copy()
    expected[0, 0] = expected[6, 6] = expected[7, 7] = False
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(Steps(min_size=2).clean(SPECKLED)[6:], SPECKLED[6:])


def test_the_largest_part_stays_alone():
    found = Steps(largest=True).clean(SPECKLED)
    assert found.sum() == 12 and found[1:5, 2:6].sum() == 12
    assert not Steps(largest=True).clean(np.zeros((3, 3), bool)).any()
    assert not Steps(largest=True, min_size=13).clean(SPECKLED).any()


def test_holes_are_filled_and_bays_are_not():
    found = Steps(fill_holes=True).clean(SPECKLED)
    assert found[1:5, 2:6].all() and found.sum() == SPECKLED.sum() + 4
    bay = area("###", "#..", "###")
    np.testing.assert_array_equal(Steps(fill_holes=True).clean(bay), bay)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_opening_and_closing_are_those_of_skimage_away_from_the_edge(radius):
    noise = np.random.default_rng(radius).random((60, 70)) < 0.6
    inside = slice(4 * radius + 2, -4 * radius - 2)
    for name, function in (("opening", morphology.binary_opening), ("closing", morphology.binary_closing)):
        found = Steps(**{name: radius}).clean(noise)
        expected = function(noise, morphology.disk(radius))
        np.testing.assert_array_equal(found[inside, inside], expected[inside, inside])
        np.testing.assert_array_equal(Steps(**{name: radius}).clean(noise.T).T, found)


def test_steps_are_made_in_their_order():
    """A hole is closed before small parts are counted, and opening comes first of all."""
    ring = area("....", ".##.", ".##.", "....")
    assert Steps(opening=1).clean(ring).sum() == 0
    hollow = np.zeros((9, 9), bool)
    hollow[2:7, 2:7] = True
    hollow[3:6, 3:6] = False
    assert hollow.sum() == 16
    assert Steps(fill_holes=True, min_size=25).clean(hollow).sum() == 25
    assert Steps(min_size=25).clean(hollow).sum() == 0


def test_exclusive_classes_take_from_the_background_only():
    mask = np.zeros((7, 7), np.uint8)
    mask[1:6, 1:6] = 1
    mask[3, 3] = 2
    mask[2, 2] = 0
    mask[0, 0] = 2
    found = clean_mask(mask, {1: Steps(fill_holes=True), 2: Steps(min_size=2)}, overlapping=False)
    expected = np.zeros((7, 7), np.uint8)
    expected[1:6, 1:6] = 1
    expected[3, 3] = 0  # class 2's only pixel there went to the background after class 1 had its turn
    np.testing.assert_array_equal(found, expected)
    assert mask[3, 3] == 2, "the prediction itself must not change"


def test_overlapping_classes_are_cleaned_each_for_itself():
    mask = np.zeros((6, 6), np.uint16)
    mask[1:5, 1:5] |= 1
    mask[2, 2] &= ~np.uint16(1)
    mask[2, 2] |= 4
    mask[0, 5] |= 4
    mask[3:5, 3:5] |= 4
    found = clean_mask(mask, {0: Steps(fill_holes=True), 2: Steps(min_size=4)}, overlapping=True)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found & 1, np.pad(np.ones((4, 4)), 1))
    # (2, 2) touches (3, 3) at a corner: they are one part of five pixels.
    expected = np.zeros((6, 6))
    expected[3:5, 3:5] = expected[2, 2] = 4
    np.testing.assert_array_equal(found & 4, expected)


def test_stretched_images_have_stretched_steps():
    steps = Steps(0.3, opening=1, closing=2, fill_holes=True, min_size=10, largest=True, split=5)
    wanted = dataclasses.replace(steps, opening=3, closing=6, min_size=90, split=15)
    assert stretch({1: steps}, 9.0) == {1: wanted}
    assert stretch({1: steps}, 1.0) == {1: steps}
    assert stretch({1: Steps(split=2)}, 0.01) == {1: Steps(split=1)}, "it must not be switched off"


CLASSES = {1: "cell", 2: "gap"}


def test_what_was_chosen_is_read_again_for_the_same_weights_and_way(tmp_path):
    path = tmp_path / "postprocess.json"
    assert read_postprocess(path, "", "digest", CLASSES) is None
    chosen = {1: Steps(0.35, min_size=20), 2: Steps(fill_holes=True)}
    content = {CLASSES[number]: dataclasses.asdict(steps) for number, steps in chosen.items()}
    write_postprocess(path, "", {"model_sha256": "digest", "classes": content})
    write_postprocess(path, "tta", {"model_sha256": "turned", "classes": content | {"gap": {"threshold": 0.9}}})
    assert read_postprocess(path, "", "digest", CLASSES) == chosen
    assert read_postprocess(path, "tta", "turned", CLASSES) == {1: chosen[1], 2: Steps(0.9)}
    assert read_postprocess(path, "", "trained further", CLASSES) is None
    assert read_postprocess(path, "ensemble", "digest", CLASSES) is None


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "postprocess.json"
    path.write_text("{")
    with pytest.raises(
        ValueError, match=r"postprocess\.json: damaged .* delete it, and run `python -m evaluation\.tune`"
    ):
        read_postprocess(path, "", "digest", CLASSES)
    path.write_text(json.dumps({"": {"model_sha256": "digest", "classes": {"cell": {"colour": 3}, "gap": {}}}}))
    with pytest.raises(ValueError, match="expected steps of each class .*colour"):
        read_postprocess(path, "", "digest", CLASSES)


@pytest.mark.parametrize("content", ["null", "5", "[]", '{"": 5}', '{"": {}}', '{"": {"model_sha256": "digest"}}'])
def test_a_file_of_something_else_is_refused_too(tmp_path, content):
    path = tmp_path / "postprocess.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"postprocess\.json: .*run `python -m evaluation\.tune`"):
        read_postprocess(path, "", "digest", CLASSES)


@pytest.mark.parametrize("steps", [{"threshold": 1.0}, {"min_size": -3}, {"split": -1}])
def test_impossible_steps_are_refused(tmp_path, steps):
    path = tmp_path / "postprocess.json"
    path.write_text(json.dumps({"": {"model_sha256": "digest", "classes": {"cell": steps, "gap": {}}}}))
    with pytest.raises(ValueError, match=f"expected steps of each class .{next(iter(steps))}: expected"):
        read_postprocess(path, "", "digest", CLASSES)
