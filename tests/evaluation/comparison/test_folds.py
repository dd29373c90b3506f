import json

import numpy as np
import pytest

from evaluation.comparison.folds import check_folds, judge_fold, own_split, summarize_folds
from evaluation.comparison.judged import read_judged
from tests.evaluation.comparison.judging import judged, table_of, write


def test_mean_spread_and_interval_are_those_computed_by_hand():
    """Of 0.7, 0.8, 0.9: deviation 0.1, t(2 degrees of freedom) = 4.3027, 4.3027 * 0.1 / sqrt(3) = 0.24842."""
    found = summarize_folds([0.7, 0.9, None, 0.8])
    assert (found.mean, found.spread, found.folds) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    np.testing.assert_allclose(found.interval, [0.55158, 1.04842], atol=1e-5)
    assert summarize_folds([0.7, None]) is None


def test_intervals_hold_the_mean_of_independent_folds_as_often_as_they_say():
    generator = np.random.default_rng(0)
    intervals = [summarize_folds(generator.normal(0.8, 0.02, 5).tolist()).interval for _ in range(2000)]
    assert np.mean([low <= 0.8 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


def test_a_fold_scores_what_its_images_do(tmp_path):
    fold = judge_fold(read_judged(write(tmp_path / "run", table_of([(6, 2, 2), (0, 0, 4)])), "test"), "dice", seed=0)
    assert fold.scores == {"dice per image": 0.375, "dice pooled": 0.6}
    assert (fold.images, fold.groups) == (2, 2)
    assert fold.intervals["dice per image"] == [0, 0.75]


def test_the_split_of_a_fold_is_the_one_that_validated_it(tmp_path):
    assert own_split(write(tmp_path / "two", table_of([(1, 0, 0)]), fold=2)) == "fold2"
    with pytest.raises(ValueError, match="expected a run trained with --input.fold, found one without"):
        own_split(write(tmp_path / "plain", table_of([(1, 0, 0)])))
    (tmp_path / "plain/config.json").write_text(json.dumps([]))
    for folder in ("plain", "nowhere"):
        with pytest.raises(ValueError, match="expected a RUN folder with its config.json"):
            own_split(str(tmp_path / folder))


def test_folds_share_all_images_or_none():
    runs = [judged(name, np.ones(3)) for name in "abc"]
    assert check_folds(runs)
    for run, start in zip(runs, (0, 3, 6), strict=True):
        run.images.index = [str(start + index) for index in range(3)]
    assert not check_folds(runs)
    runs[2].images.index = ["7", "1", "8"]
    with pytest.raises(ValueError, match="c: expected images that no other fold holds, found 1, on which a was judged"):
        check_folds(runs)
