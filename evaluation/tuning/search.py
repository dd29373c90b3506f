"""The search for a class's steps: one setting after another, each the best with those before it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inference.postprocess import PLAIN_THRESHOLD, Steps

Score = Callable[[Sequence[Steps]], list[float]]
"""From steps of a class to what each scores on validation."""

CANDIDATES = {
    "opening": [1, 2, 3],
    "closing": [1, 2, 3],
    "fill_holes": [True],
    "min_size": [5, 10, 20, 35, 50, 75, 100, 150, 250, 500, 1000, 2000],
    "largest": [True],
}
"""Values that are tried of each setting, in the order in which they are applied; sizes and radii in pixels."""

SPLITS = [2, 3, 4, 5, 6, 8, 10, 13, 16, 20]
"""Of objects that touch, tried where objects are judged."""

_NEAR = [-0.2, -0.15, -0.1, -0.05, 0.05, 0.1, 0.15, 0.2]
"""Around the threshold, once more behind the other steps."""

_FAR = [-0.2, -0.1, 0.1]
"""Around the threshold, with every size."""


def _near(steps: Steps, differences: Sequence[float]) -> list[Steps]:
    """Returns the steps with thresholds that differ by so much."""
    thresholds = [round(steps.threshold + difference, 2) for difference in differences]
    return [dataclasses.replace(steps, threshold=value) for value in thresholds if 0.01 <= value <= 0.99]


class Trial(NamedTuple):
    """Steps that were tried, and what they scored."""

    steps: Steps
    score: float


class Found(NamedTuple):
    """The search of a class.

    Attributes:
      plain: a threshold of 0.5 and nothing else.
      best: what was chosen.
      sweep: all thresholds with nothing else.
      stages: by setting what was tried of it, and the best before.
      taken: what the score went over, one after another.
    """

    plain: Trial
    best: Trial
    sweep: list[Trial]
    stages: dict[str, tuple[Trial, list[Trial]]]
    taken: list[Trial]


def search(score: Score, thresholds: Sequence[float], of_objects: bool, min_gain: float, cleans: bool = True) -> Found:
    """Returns the best steps of a class.

    A setting is taken only where it adds more than `min_gain` to the score: validation images are few, and what helps
    them a little may be chance. Of equal thresholds the one nearest 0.5 is taken, else the first.

    Args:
      score: what steps are worth.
      thresholds: that are tried.
      of_objects: whether the score is of objects, so that splitting them matters.
      min_gain: see above.
      cleans: whether there is a background, to which pixels go that a step takes away; else only thresholds are tried.
    """
    plain = best = Trial(Steps(), score([Steps()])[0])
    stages: dict[str, tuple[Trial, list[Trial]]] = {}
    taken: list[Trial] = []

    def choose(name: str, candidates: list[Steps]) -> list[Trial]:
        nonlocal best
        tried = [Trial(*pair) for pair in zip(candidates, score(candidates), strict=True)]
        stages[name] = (best, tried)
        top = max(tried, key=lambda trial: trial.score)
        if top.score > best.score + min_gain:
            best = top
            taken.append(top)
        return tried

    nearest = sorted(thresholds, key=lambda threshold: abs(threshold - PLAIN_THRESHOLD))
    tried = choose("threshold", [Steps(float(threshold)) for threshold in nearest])
    sweep = sorted(tried, key=lambda trial: trial.steps.threshold)
    settings = (CANDIDATES if cleans else {}) | ({"split": SPLITS} if of_objects else {})
    for name, values in settings.items():
        candidates = [dataclasses.replace(best.steps, **{name: value}) for value in values]
        if name == "min_size":
            # Both hide specks: the best threshold without a size hides those that a size would, at a price.
            candidates += [other for one in candidates for other in _near(one, _FAR)]
        choose(name, candidates)
    if best.steps != Steps(best.steps.threshold):
        choose("threshold, again", _near(best.steps, _NEAR))
    return Found(plain, best, sweep, stages, taken)
