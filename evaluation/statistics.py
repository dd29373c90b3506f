"""Scores of segmentations from each image's pixel counts (NumPy, float64).

With tp, fp, fn in pixels of one class: Dice = 2 tp / (2 tp + fp + fn), IoU = tp / (tp + fp + fn),
precision = tp / (tp + fp), recall = tp / (tp + fn).

Conventions where truth and prediction are both empty: an image scores 1 in `*_per_image`, is left out of
`*_nonempty`, adds nothing to `*_pooled`. With several classes a score is the mean over classes. Ignored pixels count
nowhere. A score that is 0/0 is None.

Every score here is a mean over classes of (a sum over images) / (a sum over images), so that one pair of arrays
serves the score, its bootstrap and its baselines.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from records.info import scored_classes
from records.schema import class_areas, known_pixels

RESAMPLES = 1000

_MOST_WEIGHTS = 2**20
"""Of images in draws that are computed together: 8 MiB."""


class Counts(NamedTuple):
    """Pixels of images, float64.

    Attributes:
      tp, fp, fn, tn: [images, classes], of each class that is scored.
      correct, decisions: [images, 1], for pixel accuracy. There is one decision for each known pixel or, where classes
        overlap, for each known pixel and class.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray
    correct: np.ndarray
    decisions: np.ndarray


class Ratio(NamedTuple):
    """A score: the mean over columns of sum(numerator) / sum(denominator), float64 [images, columns] each."""

    numerator: np.ndarray
    denominator: np.ndarray

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Returns the score of each draw, see `Score.values`; NaN where all columns are 0/0."""
        above, below = weights @ self.numerator, weights @ self.denominator
        present = below > 0
        scores = np.divide(above, below, out=np.zeros_like(above), where=present).sum(-1)
        columns = present.sum(-1)
        return np.where(columns, scores / np.maximum(columns, 1), np.nan)

    def value(self, weights: np.ndarray | None = None) -> float | None:
        """Returns the score, each image counted `weights` [images] times; None where all columns are 0/0."""
        score = self.values(np.ones(len(self.numerator)) if weights is None else weights)
        return None if np.isnan(score) else float(score)


class Score(Protocol):
    """What `bootstrap` gives an interval: a value of images, each counted so many times."""

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Returns the score of each draw, float64 [...]; NaN where it is 0/0.

        Args:
          weights: float64 [..., images], how many times each image counts.
        """


def confusion(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns int64 [classes, classes]: pixels by (true class, predicted class).

    Args:
      truth: uint8 [height, width], class indices; 255 = ignore.
      prediction: uint8 [height, width].
      num_classes: with the background.
    """
    valid = known_pixels(truth, overlapping=False)
    pairs = truth[valid].astype(np.int64) * num_classes + prediction[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def exclusive_counts(matrices: np.ndarray, classes: list[int]) -> Counts:
    """Returns the counts of images whose classes exclude each other.

    Args:
      matrices: int64 [images, all classes, all classes], as `confusion` returns them.
      classes: the classes to count.
    """
    tp = np.diagonal(matrices, axis1=1, axis2=2)[:, classes].astype(float)
    fp = matrices.sum(1)[:, classes] - tp
    fn = matrices.sum(2)[:, classes] - tp
    pixels = matrices.sum((1, 2))[:, None].astype(float)
    correct = np.trace(matrices, axis1=1, axis2=2)[:, None].astype(float)
    return Counts(tp, fp, fn, pixels - tp - fp - fn, correct, pixels)


def class_cells(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns int64 [classes, 4]: pixels that are (tp, fp, fn, tn) of each overlapping class.

    Args:
      truth: uint16 [height, width], bit fields; bit 15 = ignore.
      prediction: uint16 [height, width].
      num_classes: at most 15.
    """
    known = known_pixels(truth, overlapping=True)
    true, found = (class_areas(mask[known], range(num_classes), True) for mask in (truth, prediction))
    return np.stack([(true & found).sum(1), (~true & found).sum(1), (true & ~found).sum(1), (~true & ~found).sum(1)], 1)


def overlapping_counts(cells: np.ndarray) -> Counts:
    """Returns the counts of images whose classes overlap.

    Args:
      cells: int64 [images, classes, 4], as `class_cells` returns them.
    """
    tp, fp, fn, tn = np.moveaxis(cells, 2, 0).astype(float)
    correct = (tp + tn).sum(1, keepdims=True)
    return Counts(tp, fp, fn, tn, correct, correct + (fp + fn).sum(1, keepdims=True))


def pair_classes(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns int64 [classes + 1, classes + 1]: known pixels that hold a true and a predicted class, by both.

    The last row is of pixels that are of no class, the last column of those predicted to be of none. A pixel of several
    classes counts several times. Arguments: those of `class_cells`.
    """
    known = known_pixels(truth, overlapping=True)
    true, found = (
        np.concatenate([areas, ~areas.any(0, keepdims=True)]).astype(np.float64)
        for areas in (class_areas(mask[known], range(num_classes), True) for mask in (truth, prediction))
    )
    return (true @ found.T).astype(np.int64)


def pixel_tables(
    truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], num_classes: int, overlapping: bool
) -> np.ndarray:
    """Returns what `confusion`, or `class_cells` where classes overlap, says of each pair of masks [height, width]."""
    table_of = class_cells if overlapping else confusion
    return np.stack([table_of(truth, found, num_classes) for truth, found in zip(truths, predictions, strict=True)])


def table_counts(tables: np.ndarray, classes: list[str], overlapping: bool) -> Counts:
    """Returns the counts of `pixel_tables`, of the classes that are scored."""
    return overlapping_counts(tables) if overlapping else exclusive_counts(tables, scored_classes(classes, overlapping))


def count_masks(
    truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], classes: list[str], overlapping: bool
) -> Counts:
    """Returns the counts of pairs of masks, each [height, width], of the classes that are scored."""
    return table_counts(pixel_tables(truths, predictions, len(classes), overlapping), classes, overlapping)


def image_scores(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (Dice, IoU, present), float64 [images, classes]; empty against empty scores 1 and is not present."""
    union = tp + fp + fn
    present = (union > 0).astype(float)
    safe = np.maximum(union, 1)
    dice = np.where(union > 0, 2 * tp / (safe + tp), 1.0)
    return dice, np.where(union > 0, tp / safe, 1.0), present


def overlap_ratios(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, Ratio]:
    """Returns the six overlap scores, micro precision and recall. Arguments: float64 [images, classes]."""
    dice, iou, present = image_scores(tp, fp, fn)
    ratios = {}
    for name, scores in (("dice", dice), ("iou", iou)):
        images = np.ones((len(scores), 1))
        nonempty = present.max(1, keepdims=True)
        mean_present = (scores * present).sum(1, keepdims=True) / np.maximum(1, present.sum(1, keepdims=True))
        ratios[f"{name}_per_image"] = Ratio(scores.mean(1, keepdims=True), images)
        ratios[f"{name}_nonempty"] = Ratio(mean_present, nonempty)
    ratios["dice_pooled"] = Ratio(2 * tp, 2 * tp + fp + fn)
    ratios["iou_pooled"] = Ratio(tp, tp + fp + fn)
    ratios["precision"] = Ratio(tp.sum(1, keepdims=True), (tp + fp).sum(1, keepdims=True))
    ratios["recall"] = Ratio(tp.sum(1, keepdims=True), (tp + fn).sum(1, keepdims=True))
    return ratios


def summarize(
    counts: Counts, groups: np.ndarray, class_names: list[str], seed: int = 0
) -> dict[str, float | list[float] | None]:
    """Returns all scores by name, in the form of metrics.json.

    Args:
      counts: of all images.
      groups: [images]; the bootstrap draws whole groups, because images of one patient or scene are alike.
      class_names: of the classes that are scored.
      seed: of the bootstrap.
    """
    tp, fp, fn, tn, correct, decisions = counts
    ratios = overlap_ratios(tp, fp, fn)
    ratios["pixel_accuracy"] = Ratio(correct, decisions)
    result: dict[str, float | list[float] | None] = {name: ratio.value() for name, ratio in ratios.items()}
    for name, bounds in bootstrap(ratios, groups, seed).items():
        result[f"{name}_ci95"] = bounds
    if len(class_names) > 1:
        for column, class_name in enumerate(class_names):
            one = slice(column, column + 1)
            for name, ratio in overlap_ratios(tp[:, one], fp[:, one], fn[:, one]).items():
                result[f"{name}/{class_name}"] = ratio.value()
    # Constant predictions tell what a score is worth: on mostly empty images "nothing" scores high per image.
    nothing = overlap_ratios(np.zeros_like(tp), np.zeros_like(fp), tp + fn)
    everything = overlap_ratios(tp + fn, fp + tn, np.zeros_like(fn))
    for baseline, scores in (("nothing", nothing), ("everything", everything)):
        for name in ("dice_per_image", "dice_nonempty", "dice_pooled"):
            result[f"baseline_{baseline}/{name}"] = scores[name].value()
    return result


def bootstrap(ratios: Mapping[str, Score], groups: np.ndarray, seed: int) -> dict[str, list[float] | None]:
    """Returns 95 % percentile intervals [low, high] over resampled groups (Efron 1979).

    None for a 0/0 score, and where there is only one group: nothing tells how another would score.
    """
    generator = np.random.default_rng(seed)
    _, membership = np.unique(groups, return_inverse=True)
    count = membership.max() + 1
    if count < 2:
        return dict.fromkeys(ratios)
    together = max(1, min(RESAMPLES, _MOST_WEIGHTS // len(groups)))
    samples: dict[str, list[np.ndarray]] = {name: [] for name in ratios}
    for start in range(0, RESAMPLES, together):
        draws = range(start, min(start + together, RESAMPLES))
        drawn = np.stack([np.bincount(generator.integers(count, size=count), minlength=count) for _ in draws])
        weights = drawn[:, membership].astype(float)
        for name, ratio in ratios.items():
            samples[name].append(ratio.values(weights))
    return {name: _interval(np.concatenate(values)) for name, values in samples.items()}


def _interval(values: np.ndarray) -> list[float] | None:
    known = values[~np.isnan(values)]
    return [float(bound) for bound in np.percentile(known, [2.5, 97.5])] if len(known) else None
