import math

import numpy as np
import pytest

from evaluation import statistics
from evaluation.statistics import (
    Ratio,
    bootstrap,
    class_cells,
    confusion,
    exclusive_counts,
    image_scores,
    overlap_ratios,
    overlapping_counts,
    summarize,
)
from records.schema import IGNORE, IGNORE_BIT

SCORES = ("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled")
MICRO = ("precision", "recall", "pixel_accuracy")
BASELINE_SCORES = ("dice_per_image", "dice_nonempty", "dice_pooled")


def random_masks(seed: int, num_classes: int, images: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Returns (truth with ignored pixels, prediction); some images lack classes, one is empty, one all ignored."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, [images, 5, 7]).astype(np.uint8)
    guess = generator.integers(0, num_classes, truth.shape)
    found = np.where(generator.random(truth.shape) < 0.6, truth, guess).astype(np.uint8)
    truth[generator.random(truth.shape) < 0.1] = IGNORE
    truth[0], found[0] = 0, 0
    truth[1] = IGNORE
    truth[2], found[2, 0, 0] = 0, 1
    truth[3][truth[3] == num_classes - 1] = 0
    found[3][found[3] == num_classes - 1] = 0
    return truth, found


def slow_cells(truth: np.ndarray, found: np.ndarray, number: int) -> tuple[int, int, int]:
    """Returns (tp, fp, fn) of one image and class, pixel by pixel."""
    tp = fp = fn = 0
    for true, guess in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
        if true != IGNORE:
            tp += true == number and guess == number
            fp += true != number and guess == number
            fn += true == number and guess != number
    return tp, fp, fn


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def slow_scores(truth: np.ndarray, found: np.ndarray, classes: list[int]) -> dict[str, float | None]:
    """Returns the six overlap scores, precision and recall; shares nothing with the implementation."""
    cells = [[slow_cells(t, f, number) for number in classes] for t, f in zip(truth, found, strict=True)]
    dices = [[share(2 * tp, 2 * tp + fp + fn) for tp, fp, fn in row] for row in cells]
    ious = [[share(tp, tp + fp + fn) for tp, fp, fn in row] for row in cells]
    pooled = [[sum(row[column][cell] for row in cells) for cell in range(3)] for column in range(len(classes))]
    tp, fp, fn = (sum(row[cell] for row in pooled) for cell in range(3))
    return {
        "dice_per_image": mean([mean([1.0 if value is None else value for value in row]) for row in dices]),
        "dice_nonempty": mean([mean(row) for row in dices]),
        "dice_pooled": mean([share(2 * tp, 2 * tp + fp + fn) for tp, fp, fn in pooled]),
        "iou_per_image": mean([mean([1.0 if value is None else value for value in row]) for row in ious]),
        "iou_nonempty": mean([mean(row) for row in ious]),
        "iou_pooled": mean([share(tp, tp + fp + fn) for tp, fp, fn in pooled]),
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
    }


def matrices_of(truth: np.ndarray, found: np.ndarray, num_classes: int) -> np.ndarray:
    return np.stack([confusion(t, f, num_classes) for t, f in zip(truth, found, strict=True)])


def each_alone(count: int) -> np.ndarray:
    return np.array([f"image{index}" for index in range(count)])


def binary(*images: tuple[list[int], list[int]], groups: list[str] | None = None) -> dict:
    """Returns the summary of one-row images of two classes."""
    matrices = np.stack([confusion(np.array([t], np.uint8), np.array([f], np.uint8), 2) for t, f in images])
    return summarize(exclusive_counts(matrices, [1]), np.array(groups or each_alone(len(images))), ["object"])


def test_the_confusion_matrix_counts_true_by_predicted():
    truth = np.array([[0, 0, 1, 2], [2, 2, IGNORE, IGNORE]], np.uint8)
    found = np.array([[0, 1, 1, 0], [2, 2, 1, 0]], np.uint8)
    np.testing.assert_array_equal(confusion(truth, found, 3), [[1, 1, 0], [0, 1, 0], [1, 0, 2]])


def test_an_ignored_image_has_an_empty_matrix():
    everything = np.full([3, 4], IGNORE, np.uint8)
    np.testing.assert_array_equal(confusion(everything, np.ones([3, 4], np.uint8), 2), np.zeros([2, 2]))


@pytest.mark.parametrize(("num_classes", "classes"), [(2, [1]), (4, [1, 2, 3]), (3, [0, 1, 2])])
def test_pixels_and_image_scores_equal_an_independent_implementation(num_classes, classes):
    truth, found = random_masks(0, num_classes)
    counts = exclusive_counts(matrices_of(truth, found, num_classes), classes)[:3]
    dice, iou, present = image_scores(*counts)
    for image in range(len(truth)):
        for column, number in enumerate(classes):
            tp, fp, fn = slow_cells(truth[image], found[image], number)
            assert [cell[image, column] for cell in counts] == [tp, fp, fn]
            assert present[image, column] == (tp + fp + fn > 0)
            assert dice[image, column] == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1)
            assert iou[image, column] == pytest.approx(tp / (tp + fp + fn) if tp + fp + fn else 1)


@pytest.mark.parametrize(("num_classes", "classes"), [(2, [1]), (4, [1, 2, 3]), (3, [0, 1, 2])])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_score_equals_an_independent_implementation(num_classes, classes, seed):
    truth, found = random_masks(seed, num_classes)
    names = [f"class{number}" for number in classes]
    counts = exclusive_counts(matrices_of(truth, found, num_classes), classes)
    summary = summarize(counts, each_alone(len(truth)), names)
    expected = slow_scores(truth, found, classes)
    known = truth != IGNORE
    expected["pixel_accuracy"] = np.mean(truth[known] == found[known])
    if len(classes) > 1:
        for number in classes:
            alone = slow_scores(truth, found, [number])
            expected |= {f"{name}/class{number}": value for name, value in alone.items()}
    nothing = slow_scores(truth, np.full_like(found, 250), classes)
    expected |= {f"baseline_nothing/{name}": nothing[name] for name in BASELINE_SCORES}
    # "Everything" predicts each class on its own on all pixels; with several classes no single mask does so.
    everything = [slow_scores(truth, np.full_like(found, number), [number]) for number in classes]
    expected |= {
        f"baseline_everything/{name}": mean([scores[name] for scores in everything])
        for name in ("dice_per_image", "dice_pooled")
    }
    found_values = {name: value for name, value in summary.items() if not name.endswith("_ci95")}
    assert found_values.pop("baseline_everything/dice_nonempty") == pytest.approx(
        # Every image that has known pixels has every class then.
        np.mean(
            [
                mean([slow_scores(truth[i : i + 1], np.full_like(found[:1], n), [n])["dice_pooled"] for n in classes])
                for i in range(len(truth))
                if known[i].any()
            ]
        )
    )
    assert found_values == pytest.approx(expected)
    assert {name for name in summary if name.endswith("_ci95")} == {f"{name}_ci95" for name in (*SCORES, *MICRO)}


def random_bit_fields(seed: int, num_classes: int, images: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Returns (truth with ignored pixels, prediction); one image is empty, one all ignored."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2**num_classes, [images, 5, 7]).astype(np.uint16)
    guess = generator.integers(0, 2**num_classes, truth.shape)
    found = np.where(generator.random(truth.shape) < 0.6, truth, guess).astype(np.uint16)
    truth[generator.random(truth.shape) < 0.1] |= IGNORE_BIT
    truth[0], found[0] = 0, 0
    truth[1] |= IGNORE_BIT
    return truth, found


def summary_of_bit_fields(truth: np.ndarray, found: np.ndarray, num_classes: int) -> dict:
    cells = np.stack([class_cells(t, f, num_classes) for t, f in zip(truth, found, strict=True)])
    names = [f"class{number}" for number in range(num_classes)]
    return summarize(overlapping_counts(cells), each_alone(len(truth)), names)


def test_cells_of_overlapping_classes_by_hand():
    truth = np.array([[0b01, 0b11, 0b10, 0, IGNORE_BIT + 0b11]], np.uint16)
    found = np.array([[0b01, 0b10, 0b11, 0b01, 0b11]], np.uint16)
    cells = class_cells(truth, found, 2)
    np.testing.assert_array_equal(cells, [[1, 2, 1, 0], [2, 0, 0, 2]])
    counts = overlapping_counts(cells[None])
    # Four known pixels of two classes each: eight decisions, three of them wrong.
    assert (counts.correct.tolist(), counts.decisions.tolist()) == ([[5]], [[8]])


@pytest.mark.parametrize("num_classes", [1, 3])
def test_every_score_of_overlapping_classes_equals_an_independent_implementation(num_classes):
    truth, found = random_bit_fields(3, num_classes)
    summary = summary_of_bit_fields(truth, found, num_classes)

    def alone(number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the masks of one class as indices: 1 where a pixel has its bit."""
        true = np.array([[[IGNORE if v >= 2**15 else v // 2**number % 2 for v in row] for row in t] for t in truth])
        return true, found // 2**number % 2

    pairs = [alone(number) for number in range(num_classes)]
    scores = [slow_scores(*pair, [1]) for pair in pairs]
    for name in ("dice_per_image", "dice_pooled", "iou_per_image", "iou_pooled"):
        assert summary[name] == pytest.approx(mean([score[name] for score in scores]))
    cells = np.sum([[slow_cells(t, f, 1) for t, f in zip(*pair, strict=True)] for pair in pairs], axis=(0, 1))
    tp, fp, fn = cells.tolist()
    assert summary["precision"] == pytest.approx(tp / (tp + fp))
    assert summary["recall"] == pytest.approx(tp / (tp + fn))
    right = [(true == guess)[true != IGNORE] for true, guess in pairs]
    assert summary["pixel_accuracy"] == pytest.approx(np.mean(right))
    if num_classes > 1:
        for number, score in enumerate(scores):
            assert {name: summary[f"{name}/class{number}"] for name in score} == pytest.approx(score)
    nothing = [slow_scores(true, guess * 0, [1]) for true, guess in pairs]
    everything = [slow_scores(true, guess * 0 + 1, [1]) for true, guess in pairs]
    for baseline, values in (("nothing", nothing), ("everything", everything)):
        for name in ("dice_per_image", "dice_pooled"):
            assert summary[f"baseline_{baseline}/{name}"] == pytest.approx(mean([score[name] for score in values]))


def test_one_overlapping_class_scores_like_a_class_against_a_background():
    truth, found = random_masks(6, 2)
    counts = exclusive_counts(matrices_of(truth, found, 2), [1])
    expected = summarize(counts, each_alone(len(truth)), ["class0"])
    fields = np.where(truth == IGNORE, IGNORE_BIT, truth).astype(np.uint16)
    assert summary_of_bit_fields(fields, found.astype(np.uint16), 1) == expected


def test_scores_of_three_images_by_hand():
    # Dice 2/3, IoU 1/2; empty against empty; one false pixel on an empty image.
    summary = binary(([1, 1, 0, 0], [1, 0, 0, 0]), ([0, 0, 0, 0], [0, 0, 0, 0]), ([0, 0, 0, 0], [0, 0, 1, 0]))
    expected = {
        "dice_per_image": (2 / 3 + 1 + 0) / 3,
        "dice_nonempty": (2 / 3 + 0) / 2,
        "dice_pooled": 2 / 4,
        "iou_per_image": (1 / 2 + 1 + 0) / 3,
        "iou_nonempty": (1 / 2 + 0) / 2,
        "iou_pooled": 1 / 3,
        "precision": 1 / 2,
        "recall": 1 / 2,
        "pixel_accuracy": 10 / 12,
        "baseline_nothing/dice_per_image": 2 / 3,
        "baseline_nothing/dice_nonempty": 0,
        "baseline_nothing/dice_pooled": 0,
        "baseline_everything/dice_per_image": (2 * 2 / 6 + 0 + 0) / 3,
        "baseline_everything/dice_nonempty": (2 * 2 / 6 + 0 + 0) / 3,
        "baseline_everything/dice_pooled": 2 * 2 / (2 + 12),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_what_is_zero_by_zero_is_none():
    summary = binary(([0, 0], [0, 0]), ([0, 0], [0, 0]))
    assert summary["dice_per_image"] == summary["iou_per_image"] == summary["pixel_accuracy"] == 1
    assert summary["dice_per_image_ci95"] == [1, 1]
    for name in ("dice_nonempty", "dice_pooled", "iou_nonempty", "iou_pooled", "precision", "recall"):
        assert summary[name] is None
        assert summary[f"{name}_ci95"] is None


def test_without_any_known_pixel_there_is_no_accuracy():
    summary = binary(([IGNORE, IGNORE], [1, 0]))
    assert summary["pixel_accuracy"] is None
    assert summary["dice_pooled"] is None


def test_no_prediction_has_no_precision_and_no_truth_no_recall():
    assert (binary(([1, 0], [0, 0]))["precision"], binary(([1, 0], [0, 0]))["recall"]) == (None, 0)
    assert (binary(([0, 0], [0, 1]))["precision"], binary(([0, 0], [0, 1]))["recall"]) == (0, None)


def test_a_class_that_is_nowhere_counts_in_no_pooled_mean():
    truth = np.array([[[0, 1, 1, 0]]], np.uint8)
    counts = exclusive_counts(matrices_of(truth, truth * 0 + 1, 3), [1, 2])
    summary = summarize(counts, np.array(["a"]), ["one", "two"])
    assert summary["dice_pooled"] == summary["dice_pooled/one"] == pytest.approx(2 / 3)
    assert summary["dice_pooled/two"] is None
    assert summary["dice_per_image"] == pytest.approx((2 / 3 + 1) / 2)
    assert summary["dice_nonempty"] == pytest.approx(2 / 3)


def test_a_ratio_counts_images_by_their_weights():
    ratio = Ratio(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0], [4.0, 5.0]]))
    assert ratio.value() == pytest.approx((4 / 6 + 0 / 5) / 2)
    assert ratio.value(np.array([2.0, 0.0])) == pytest.approx(2 / 4)
    assert ratio.value(np.array([0.0, 0.0])) is None


def test_a_ratio_of_several_draws_is_that_of_each():
    ratio = Ratio(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0], [4.0, 5.0]]))
    draws = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(ratio.values(draws), [(4 / 6 + 0 / 5) / 2, 2 / 4, np.nan])


def random_ratios(copies: int = 1) -> dict[str, Ratio]:
    truth, found = random_masks(5, 2, images=30)
    counts = exclusive_counts(matrices_of(truth, found, 2), [1])[:3]
    return overlap_ratios(*(np.repeat(cell, copies, axis=0) for cell in counts))


def test_the_bootstrap_is_seeded():
    ratios, groups = random_ratios(), each_alone(30)
    assert bootstrap(ratios, groups, 1) == bootstrap(ratios, groups, 1)
    assert bootstrap(ratios, groups, 1) != bootstrap(ratios, groups, 2)


def test_intervals_do_not_depend_on_how_many_draws_are_computed_together(monkeypatch):
    ratios = random_ratios()
    together = bootstrap(ratios, each_alone(30), 1)
    for most in (30, 7 * 30):  # one by one; by seven, the last ones by fewer
        monkeypatch.setattr(statistics, "_MOST_WEIGHTS", most)
        for name, bounds in bootstrap(ratios, each_alone(30), 1).items():
            assert bounds == pytest.approx(together[name], rel=1e-12)


def test_intervals_hold_the_score():
    ratios = random_ratios()
    for name, (low, high) in bootstrap(ratios, each_alone(30), 0).items():
        assert low < ratios[name].value() < high


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).normal(size=(200, 1))
    low, high = bootstrap({"mean": Ratio(values, np.ones_like(values))}, each_alone(200), 0)["mean"]
    error = values.std() / math.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.3 * error)


def test_copies_within_a_group_tell_nothing_new():
    single, copied = random_ratios(), random_ratios(copies=9)
    expected = bootstrap(single, each_alone(30), 3)
    grouped = bootstrap(copied, np.repeat(each_alone(30), 9), 3)
    ungrouped = bootstrap(copied, each_alone(270), 3)
    for name, bounds in expected.items():
        assert grouped[name] == pytest.approx(bounds)
        # Nine times as many images seem to narrow it to a third.
        assert 2 < np.diff(grouped[name])[0] / np.diff(ungrouped[name])[0] < 4.5


def test_one_group_alone_has_no_interval():
    ratios = random_ratios()
    assert bootstrap(ratios, np.array(["patient"] * 30), 0) == dict.fromkeys(ratios)
