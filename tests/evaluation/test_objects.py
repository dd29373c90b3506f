"""Matching of objects and its scores, against cases worked by hand and a plain computation."""

import numpy as np
import pytest
from skimage.measure import label

from evaluation.objects import (
    THRESHOLDS,
    ObjectCounts,
    count_matches,
    count_objects,
    image_f2,
    image_precision,
    object_ratios,
    summarize_objects,
    threshold_ratios,
)
from imaging.objects import label_objects


def row(pixels: str) -> np.ndarray:
    """A label map of one row: a letter for each object, a dot where there is none."""
    return np.array([[0 if pixel == "." else ord(pixel) for pixel in pixels]])


def judge(true: np.ndarray, found: np.ndarray) -> tuple[list[float], list[float]]:
    """(F2, precision) of one image of one class at each threshold."""
    matched, num_true, num_found = count_matches(true, found)
    counts = matched[None, None], np.array([[num_true]]), np.array([[num_found]])
    return image_f2(*counts)[0, 0].tolist(), image_precision(*counts)[0, 0].tolist()


def plain_matches(true: np.ndarray, found: np.ndarray, threshold: float) -> int:
    """Pairs above a threshold, each pair of objects compared pixel by pixel."""
    count = 0
    for one in set(true[true > 0]):
        for other in set(found[found > 0]):
            shared, union = ((true == one) & (found == other)).sum(), ((true == one) | (found == other)).sum()
            count += shared / union > threshold + 1e-9
    return count


def random_labels(generator: np.random.Generator) -> np.ndarray:
    """Objects that touch: a grid of squares, some moved, some missing."""
    labels = np.zeros([24, 24], np.int32)
    for number in range(16):
        if generator.random() < 0.8:
            y, x = divmod(number, 4) + generator.integers(0, 2, 2) / 6
            labels[int(6 * y) : int(6 * y) + 5, int(6 * x) : int(6 * x) + 6] = number + 1
    return labels


def test_thresholds_are_named_with_two_digits():
    assert THRESHOLDS == ["0.50", "0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]


def test_a_match_has_to_be_better_than_its_threshold():
    # IoU 11/20: a hit at 0.5, and none at exactly 0.55, which no float64 would tell apart for sure.
    matched, _, _ = count_matches(row("A" * 20), row("A" * 11 + "." * 9))
    assert matched.tolist() == [1] + [0] * 9
    for twentieths in range(10, 20):
        matched, _, _ = count_matches(row("A" * 20), row("A" * twentieths + "." * (20 - twentieths)))
        assert matched.sum() == twentieths - 10


def test_a_half_is_no_match_and_a_perfect_object_matches_everywhere():
    assert count_matches(row("AA"), row("A."))[0].tolist() == [0] * 10
    assert count_matches(row("AA"), row("AA"))[0].tolist() == [1] * 10


def test_one_found_one_missed_one_invented():
    # IoU 0.8, a hit below 0.8: tp 1, fn 1, fp 1. From 0.8 on: tp 0, fn 2, fp 2.
    f2, precision = judge(row("..AAAAAAAAAA...BBBB......"), row("..AAAAAAAA............CC."))
    assert f2 == [0.5] * 6 + [0.0] * 4
    assert precision == [pytest.approx(1 / 3)] * 6 + [0.0] * 4


def test_a_split_object_is_one_hit_at_most():
    # 10 pixels found as 6 and 4: IoU 0.6 and 0.4. One hit at 0.5 and 0.55, and the smaller part is invented.
    f2, precision = judge(row("AAAAAAAAAA"), row("AAAAAABBBB"))
    assert f2 == [pytest.approx(5 / 6)] * 2 + [0.0] * 8
    assert precision == [0.5] * 2 + [0.0] * 8


def test_merged_objects_are_one_hit_at_most():
    # 7 and 3 pixels found as one of 10: IoU 0.7 and 0.3. One hit below 0.7, the other object is missed.
    f2, precision = judge(row("AAAAAAABBB"), row("AAAAAAAAAA"))
    assert f2 == [pytest.approx(5 / 9)] * 4 + [0.0] * 6
    assert precision == [0.5] * 4 + [0.0] * 6


@pytest.mark.parametrize(("true", "found", "score"), [("..", "..", 1.0), ("..", "A.", 0.0), ("A.", "..", 0.0)])
def test_an_image_without_objects_scores_1_and_one_with_those_of_one_side_0(true, found, score):
    assert judge(row(true), row(found)) == ([score] * 10, [score] * 10)


def test_matches_equal_those_of_comparing_all_pairs():
    generator = np.random.default_rng(0)
    total = 0
    for _ in range(5):
        true, found = random_labels(generator), random_labels(generator)
        matched, num_true, num_found = count_matches(true, found)
        assert matched.tolist() == [plain_matches(true, found, float(threshold)) for threshold in THRESHOLDS]
        assert (num_true, num_found) == (len(set(true[true > 0])), len(set(found[found > 0])))
        total += matched.sum()
    assert total > 50


def test_the_numbers_of_objects_do_not_matter_and_the_sides_are_alike():
    generator = np.random.default_rng(1)
    true, found = random_labels(generator), random_labels(generator)
    numbers = np.concatenate([[0], generator.permutation(np.arange(100, 116))])
    for given in (numbers[true], 10**7 * numbers[true]):
        assert count_matches(given, found)[0].tolist() == count_matches(true, found)[0].tolist()
        assert count_matches(found, given)[0].tolist() == count_matches(true, found)[0].tolist()
    assert count_matches(found, true)[0].tolist() == count_matches(true, found)[0].tolist()


def test_parts_that_touch_at_a_corner_are_one_object():
    area = np.random.default_rng(2).random([40, 50]) < 0.3
    found, expected = label_objects(area), label(area, connectivity=2)
    assert found.max() == expected.max()
    assert len(np.unique(found * 1000 + expected)) == found.max() + 1
    assert label_objects(np.eye(3, dtype=bool)).max() == 1


def test_touching_objects_are_told_apart_by_the_instance_map_alone():
    area, known = np.ones([1, 4, 8], bool), np.ones([4, 8], bool)
    instances = np.repeat([[3, 9]], [4, 4], axis=1).repeat(4, axis=0).astype(np.uint16)
    assert count_objects(area, area, known, None).true.tolist() == [1]
    counts = count_objects(area, area, known, instances)
    assert (counts.true.tolist(), counts.found.tolist(), counts.matched.sum()) == ([2], [1], 0)


def test_an_instance_is_an_object_of_the_class_of_its_pixels():
    instances = np.array([[1, 1, 2, 2]])
    areas = np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], bool)
    counts = count_objects(areas, areas, np.ones([1, 4], bool), instances)
    assert counts.true.tolist() == [1, 1]
    assert counts.matched.tolist() == [[1] * 10] * 2


def test_ignored_pixels_make_no_object_and_no_difference():
    known = np.ones([6, 6], bool)
    known[:, 3:] = False
    true, found = np.zeros([1, 6, 6], bool), np.zeros([1, 6, 6], bool)
    true[0, 1:5, 1:3] = found[0, 1:5, 1:6] = True  # beyond the known ones the prediction goes on
    found[0, 0, 5] = True  # and has an object that nobody knows of
    counts = count_objects(true, found, known, None)
    assert (counts.true.tolist(), counts.found.tolist(), counts.matched.tolist()) == ([1], [1], [[1] * 10])
    nothing = count_objects(true, found, np.zeros([6, 6], bool), None)
    assert (nothing.true.tolist(), nothing.found.tolist(), nothing.known.tolist()) == ([0], [0], [0])


def hand_worked() -> ObjectCounts:
    """Two images of one class: both of two objects found above all thresholds; one of three, above 0.5, and one more
    invented; and an empty one."""
    matched = np.zeros([3, 1, 10], int)
    matched[0], matched[1, 0, 0] = 2, 1
    by_all = np.zeros([3, 1, 10], int)
    by_all[1, 0, :3] = 1
    return ObjectCounts(matched, np.array([[2], [3], [0]]), np.array([[2], [2], [0]]), by_all, np.ones([3, 1], int))


def test_scores_are_those_worked_by_hand():
    scores = summarize_objects(hand_worked(), ["ship"])
    assert scores["object_precision@0.50"] == pytest.approx(3 / 4)
    assert scores["object_recall@0.50"] == pytest.approx(3 / 5)
    assert scores["object_f1@0.50"] == pytest.approx(6 / 9)
    assert scores["object_f2@0.50"] == pytest.approx((1 + 5 / 14 + 1) / 3)
    assert scores["object_f2@0.55"] == pytest.approx((1 + 0 + 1) / 3)
    assert scores["object_precision"] == pytest.approx((3 / 4 + 9 * 2 / 4) / 10)
    assert scores["object_recall"] == pytest.approx((3 / 5 + 9 * 2 / 5) / 10)
    assert scores["object_f1"] == pytest.approx((6 / 9 + 9 * 4 / 9) / 10)
    assert scores["object_f2"] == pytest.approx((1 + 5 / 14 / 10 + 1) / 3)
    assert scores["object_map"] == pytest.approx((1 + 1 / 4 / 10 + 1) / 3)
    # Nothing is right for the empty image alone; everything is one object, and a hit in one image at three thresholds.
    assert scores["baseline_nothing/object_f2"] == scores["baseline_nothing/object_map"] == pytest.approx(1 / 3)
    assert scores["baseline_everything/object_f2"] == pytest.approx(3 * 5 / 13 / 10 / 3)
    assert scores["baseline_everything/object_map"] == pytest.approx(3 * 1 / 3 / 10 / 3)
    assert not any("/ship" in name for name in scores)


def test_of_several_classes_a_score_is_their_mean():
    one, generator = hand_worked(), np.random.default_rng(3)
    order = generator.permutation(3)
    two = ObjectCounts(
        *(
            np.concatenate([values, values[order] * (column < 1)], 1) if column < 4 else values
            for column, values in enumerate(one)
        )
    )
    scores = summarize_objects(two, ["ship", "buoy"])
    for name, ratio in object_ratios(*one[:3]).items():
        assert scores[f"{name}/ship"] == pytest.approx(ratio.value())
    for name in ("object_f2", "object_map"):
        assert scores[name] == pytest.approx((scores[f"{name}/ship"] + scores[f"{name}/buoy"]) / 2)


def test_the_mean_over_thresholds_is_that_of_single_thresholds():
    counts = hand_worked()[:3]
    single = threshold_ratios(*counts)
    for name in ("object_precision", "object_recall", "object_f1", "object_f2"):
        values = [single[f"{name}@{threshold}"].value() for threshold in THRESHOLDS]
        assert object_ratios(*counts)[name].value() == pytest.approx(np.mean(values))


def test_what_is_0_of_0_has_no_value():
    nothing = np.zeros([2, 1, 10], int), np.zeros([2, 1], int), np.zeros([2, 1], int)
    values = {name: ratio.value() for name, ratio in object_ratios(*nothing).items()}
    assert values == dict.fromkeys(("object_precision", "object_recall", "object_f1")) | {
        "object_f2": 1.0,
        "object_map": 1.0,
    }
