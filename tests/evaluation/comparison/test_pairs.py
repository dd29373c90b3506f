import numpy as np
import pytest

from evaluation.comparison.judged import read_judged
from evaluation.comparison.pairs import FEWEST_GROUPS, compare, judge
from tests.evaluation.comparison.judging import judged, table_of, write

FIRST = [(6, 2, 2), (0, 0, 4), (0, 0, 0), (8, 0, 0)]
OTHER = [(8, 0, 0), (2, 2, 2), (0, 1, 0), (8, 0, 0)]


def test_differences_and_pooled_dice_are_those_computed_by_hand(tmp_path):
    first, other = (
        read_judged(write(tmp_path / name, table_of(cells)), "test") for name, cells in (("one", FIRST), ("two", OTHER))
    )
    found = compare(first, other, "dice", seed=0)
    np.testing.assert_allclose(found.differences, [0.25, 0.5, -1, 0])
    assert (found.better, found.worse, found.equal, found.groups) == (2, 1, 1, 4)
    images, pooled = found.pairs
    assert (images.score, images.first, images.value) == ("dice per image", pytest.approx(0.6875), 0.625)
    assert images.difference == pytest.approx(-0.0625)
    # tp, fp, fn of all: 14, 2, 6 and 18, 3, 2.
    assert (pooled.score, pooled.first, pooled.value) == ("dice pooled", 28 / 36, pytest.approx(36 / 41))


def test_the_pooled_score_of_a_class_counts_its_pixels_alone(tmp_path):
    table = table_of([(1, 0, 0), (1, 0, 0)])
    table = table.rename(columns={"tp": "tp/cat", "fp": "fp/cat", "fn": "fn/cat"})
    table = table.assign(
        **{"dice/cat": [1, 1], "dice/dog": [0, 0.5], "tp/dog": [0, 2], "fp/dog": [3, 0], "fn/dog": [1, 4]}
    )
    run = read_judged(write(tmp_path / "run", table), "test")
    pooled = {score: run.totals(score, np.ones(2, bool)) for score in ("dice/cat", "dice/dog", "dice")}
    assert pooled["dice/cat"]["dice/cat pooled"].value() == 1
    assert pooled["dice/dog"]["dice/dog pooled"].value() == 4 / 12
    assert pooled["dice"]["dice pooled"].value() == pytest.approx((1 + 4 / 12) / 2)


def test_intervals_of_pooled_dice_count_each_drawn_image_as_a_whole(tmp_path):
    """An independent bootstrap, image by image, of the same draws."""
    generator = np.random.default_rng(5)
    cells = generator.integers(0, 30, [2, 9, 3])
    cells[1, :, 2] = cells[:, :, (0, 2)].sum(2)[0] - cells[1, :, 0]  # the same truth
    runs = [
        read_judged(write(tmp_path / str(index), table_of([tuple(row) for row in part.tolist()])), "test")
        for index, part in enumerate(cells)
    ]
    draws = np.random.default_rng(3)
    values = []
    for _ in range(1000):
        drawn = draws.integers(9, size=9)
        tp, fp, fn = np.moveaxis(cells[:, drawn].sum(1), 1, 0)
        dice = 2 * tp / (2 * tp + fp + fn)
        values.append(dice[1] - dice[0])
    found = compare(*runs, "dice", seed=3).pairs[1]
    np.testing.assert_allclose(found.interval, np.percentile(values, [2.5, 97.5]))


def test_a_run_against_itself_differs_by_nothing_and_nothing_can_be_told():
    run = judged("one", np.random.default_rng(0).random(30))
    found = compare(run, run, "object_f2", seed=0)
    (pair,) = found.pairs
    assert (pair.difference, pair.interval, pair.verdict) == (0, [0, 0], "equal")
    assert (found.better, found.worse, found.equal) == (0, 0, 30)


@pytest.mark.parametrize("score", ["object_f2", "hausdorff95"])
def test_swapped_runs_give_the_negative_and_the_opposite_verdict(score):
    generator = np.random.default_rng(1)
    low = generator.random(40)
    one, two = judged("low", low, score=score), judged("high", low + generator.normal(0.3, 0.2, 40), score=score)
    there, back = compare(one, two, score, seed=0), compare(two, one, score, seed=0)
    np.testing.assert_array_equal(there.differences, -back.differences)
    (forth,), (reverse,) = there.pairs, back.pairs
    assert forth.difference == -reverse.difference > 0.2
    np.testing.assert_allclose(forth.interval, [-bound for bound in reverse.interval[::-1]])
    # A distance is better when it is less.
    verdicts = ("better", "worse") if score == "object_f2" else ("worse", "better")
    assert (forth.verdict, reverse.verdict) == verdicts
    assert (there.better, there.worse) == (back.worse, back.better)
    assert (there.better > there.worse) == (score == "object_f2")


def test_images_where_the_score_is_missing_in_one_of_both_count_nowhere():
    one = judged("one", np.array([1.0, np.nan, 3, 4]), score="hausdorff95")
    two = judged("two", np.array([2.0, 7, np.nan, 2]), score="hausdorff95")
    found = compare(one, two, "hausdorff95", seed=0)
    np.testing.assert_array_equal(found.differences, [1, np.nan, np.nan, -2])
    assert (found.pairs[0].first, found.pairs[0].value, found.pairs[0].difference) == (2.5, 2, -0.5)
    assert (found.better, found.worse, found.equal, found.groups) == (1, 1, 0, 2)
    with pytest.raises(ValueError, match="expected images whose hausdorff95 is measured for one and two, found none"):
        compare(one, judged("two", np.full(4, np.nan), score="hausdorff95"), "hausdorff95", seed=0)


@pytest.mark.parametrize(
    ("interval", "groups", "expected"),
    [
        ([0.1, 0.2], FEWEST_GROUPS, "better"),
        ([-0.2, -0.1], FEWEST_GROUPS, "worse"),
        ([-0.1, 0.2], 100, "can't tell"),
        ([0.0, 0.2], 100, "can't tell"),
        ([0.0, 0.0], 2, "equal"),
        ([0.1, 0.2], FEWEST_GROUPS - 1, "can't tell"),
        (None, 1, "can't tell"),
    ],
)
def test_a_verdict_needs_an_interval_without_0_and_some_groups(interval, groups, expected):
    assert judge(interval, groups, lower=False) == expected
    opposite = {"better": "worse", "worse": "better"}
    assert judge(interval, groups, lower=True) == opposite.get(expected, expected)


def test_intervals_over_groups_hold_the_true_difference_as_often_as_they_say():
    """Of 40 groups of 1 to 3 alike images, 95 % within what 150 trials can tell; drawing single images gives less."""
    sizes = np.arange(40) % 3 + 1
    groups = np.repeat(np.arange(40).astype(str), sizes)
    covered = []
    for seed in range(150):
        generator = np.random.default_rng(seed)
        shift = np.repeat(generator.normal(0.1, 0.1, 40), sizes)
        base = generator.random(len(groups))
        (pair,) = compare(judged("a", base, groups), judged("b", base + shift, groups), "object_f2", seed).pairs
        covered.append(pair.interval[0] <= 0.1 <= pair.interval[1])
    assert 0.9 <= np.mean(covered) <= 0.99
