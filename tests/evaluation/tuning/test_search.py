"""The search takes what helps, in its order, and leaves what does not."""

import pytest

from evaluation.tuning.search import SPLITS, search
from inference.postprocess import Steps

THRESHOLDS = [number / 100 for number in range(1, 100)]


def best_of(score, of_objects=False, min_gain=0.001, cleans=True):
    asked: list[Steps] = []

    def score_all(candidates):
        asked.extend(candidates)
        return [score(steps) for steps in candidates]

    return search(score_all, THRESHOLDS, of_objects, min_gain, cleans), asked


def test_the_best_threshold_is_taken_and_its_curve_is_kept():
    found, _ = best_of(lambda steps: 0.9 - (steps.threshold - 0.3) ** 2)
    assert found.best.steps == Steps(0.3) and found.best.score == 0.9
    assert found.plain == (Steps(), pytest.approx(0.86))
    assert [trial.steps.threshold for trial in found.sweep] == THRESHOLDS
    assert [trial.steps for trial in found.taken] == [Steps(0.3)]


def test_of_equal_thresholds_the_one_nearest_a_half_is_taken():
    found, _ = best_of(lambda steps: float(0.1 <= steps.threshold <= 0.4))
    assert found.best.steps.threshold == 0.4


def test_what_gains_too_little_is_not_taken():
    found, _ = best_of(lambda steps: 0.5 + 0.01 * steps.fill_holes, min_gain=0.01)
    assert found.best == found.plain
    found, _ = best_of(lambda steps: 0.5 + 0.011 * steps.fill_holes, min_gain=0.01)
    assert found.best.steps == Steps(fill_holes=True)


def test_settings_build_on_those_before_them_and_the_threshold_has_a_second_turn():
    def score(steps):
        # Small parts are noise that a high threshold hides as well, at a price.
        noise = 0.3 if steps.min_size < 50 and steps.threshold < 0.6 else 0.0
        return 0.9 - noise - abs(steps.threshold - 0.45) - 0.05 * (steps.closing != 2)

    found, _ = best_of(score)
    assert found.best.steps == Steps(0.45, closing=2, min_size=50)
    assert [name for name, (_, tried) in found.stages.items() if set(tried) & set(found.taken)] == [
        "threshold",
        "closing",
        "min_size",
        "threshold, again",
    ]
    for name, (before, tried) in found.stages.items():
        assert len(tried) == len({trial.steps for trial in tried}), name
        assert before.steps not in {trial.steps for trial in tried if name != "threshold"}


def test_splitting_is_tried_for_objects_alone():
    _, asked = best_of(lambda steps: 0.5)
    assert {steps.split for steps in asked} == {0}
    found, asked = best_of(lambda steps: 0.5 + 0.1 * (steps.split == 8), of_objects=True)
    assert {steps.split for steps in asked} == {0, *SPLITS}
    assert found.best.steps == Steps(split=8)


def test_without_a_background_only_thresholds_are_tried():
    found, asked = best_of(lambda steps: 0.5 + 0.2 * steps.largest - (steps.threshold - 0.4) ** 2, cleans=False)
    assert found.best.steps == Steps(0.4)
    assert set(asked) == {Steps(threshold) for threshold in THRESHOLDS}
