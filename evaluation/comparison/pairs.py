"""Is another run better? Differences of scores on the same images, image by image, with intervals."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from evaluation.comparison.judged import Judged, lower_is_better
from evaluation.statistics import Ratio, bootstrap

FEWEST_GROUPS = 6
"""For a verdict: of fewer, chance alone puts all on the same side in more than 5 % of all cases (2 / 2^5 = 6 %)."""

_ROUNDING = 1e-9
"""Scores that differ by less are equal."""

Verdict = Literal["better", "worse", "equal", "can't tell"]


class Difference(NamedTuple):
    """A score of another run less that of the first."""

    first: Ratio
    other: Ratio

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Returns the difference in each draw, see `evaluation.statistics.Score`; NaN where one is 0/0."""
        return self.other.values(weights) - self.first.values(weights)

    def value(self) -> float | None:
        """Returns the difference of all images; None where one is 0/0."""
        first, other = self.first.value(), self.other.value()
        return None if first is None or other is None else other - first


@dataclass(frozen=True)
class Pair:
    """How a score of all images differs from that of the first run.

    Attributes:
      score: "dice per image", say.
      first, value: of the two runs; None where they are 0/0.
      difference: value - first.
      interval: its 95 % bootstrap interval over groups; None where there is only one.
      verdict: of the other run. "equal": in every group. "can't tell": the interval holds 0, or there are fewer than
        FEWEST_GROUPS groups.
    """

    score: str
    first: float | None
    value: float | None
    difference: float | None
    interval: list[float] | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """A run against the first.

    Attributes:
      run: the other one.
      differences: of each image, other - first, float64 [images]; NaN where one of the two is not measured.
      pairs: of the mean of images and, where the score has one, of all pixels together.
      groups: how many of them are measured.
      better, worse, equal: number of images on which the other run is so.
      lower_is_better: the score is a distance.
    """

    run: str
    differences: np.ndarray
    pairs: list[Pair]
    groups: int
    better: int
    worse: int
    equal: int
    lower_is_better: bool


def compare(first: Judged, other: Judged, score: str, seed: int) -> Comparison:
    """Returns what an evaluation differs in from the first.

    Args:
      first, other: of the same images in the same order, see `check_same_images`.
      score: a column of per_image.csv. Images where it is not measured in both count in no mean.
      seed: of the bootstrap; with the same one the same groups are drawn for all runs and scores.

    Raises:
      ValueError: no image has the score in both.
    """
    values = [run.values(score) for run in (first, other)]
    measured = ~np.isnan(values[0]) & ~np.isnan(values[1])
    if not measured.any():
        raise ValueError(
            f"score: expected images whose {score} is measured for {first.name} and {other.name}, found none; "
            "choose another"
        )
    lower, groups = lower_is_better(score), len(np.unique(first.groups[measured]))
    totals = [run.totals(score, measured) for run in (first, other)]
    scores = {name: Difference(totals[0][name], totals[1][name]) for name in totals[0]}
    intervals = bootstrap(scores, first.groups, seed)
    pairs = [
        Pair(
            score=name,
            first=difference.first.value(),
            value=difference.other.value(),
            difference=difference.value(),
            interval=intervals[name],
            verdict=judge(intervals[name], groups, lower),
        )
        for name, difference in scores.items()
    ]
    differences = np.where(measured, values[1] - values[0], np.nan)
    gains = (-differences if lower else differences)[measured]
    better, worse = int((gains > _ROUNDING).sum()), int((gains < -_ROUNDING).sum())
    return Comparison(other.name, differences, pairs, groups, better, worse, len(gains) - better - worse, lower)


def judge(interval: list[float] | None, groups: int, lower: bool) -> Verdict:
    """Returns the verdict on a difference with that interval, over so many groups; lower: less is better."""
    if interval == [0.0, 0.0]:  # with any difference some draws would have it
        return "equal"
    if interval is None or groups < FEWEST_GROUPS or interval[0] <= 0 <= interval[1]:
        return "can't tell"
    return "better" if (interval[0] > 0) != lower else "worse"
