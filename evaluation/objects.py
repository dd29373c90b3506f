"""Scores of objects: which true ones were found, and which found ones are true?

Two objects are matched at an IoU threshold t where intersection / union > t, as the competitions say it: exactly t is
no match. Thresholds are 0.5, 0.55 ... 0.95. Objects are label maps, so those of one side share no pixel (where
annotations overlapped, the records have the smaller one on top). Two objects of one side can then not both hold more
than half of a third one's union: above 0.5 each object has one partner at most, and no order of matching matters.

With tp matched pairs, fp found objects and fn true ones without a partner: precision = tp / (tp + fp),
recall = tp / (tp + fn), F1 = 2 tp / (2 tp + fp + fn) of all images' objects together;
F2 = 5 tp / (5 tp + 4 fn + fp) (Airbus Ship Detection Challenge, kaggle.com/c/airbus-ship-detection) and
precision = tp / (tp + fp + fn) (2018 Data Science Bowl, kaggle.com/c/data-science-bowl-2018, which calls its mean the
mean average precision) image by image. Each is averaged over the thresholds. An image without any object, true or
found, scores 1 where images are averaged; with either alone it scores 0. With several classes: the mean over classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.statistics import Ratio
from imaging.objects import label_objects

TWENTIETHS = np.arange(10, 20)
"""The IoU thresholds in twentieths: whole numbers, so that exactly a threshold is told from just above."""

THRESHOLDS = [f"{twentieths / 20:.2f}" for twentieths in TWENTIETHS]
"""The same as text, as scores are named after them."""


class ObjectCounts(NamedTuple):
    """Objects of images, integers.

    Attributes:
      matched: [images, classes, thresholds], pairs above each IoU threshold.
      true, found: [images, classes].
      matched_by_all: as `matched`, if every pixel were predicted, and so one object found.
      known: [images, 1], whether any pixel is known: 0 or 1.
    """

    matched: np.ndarray
    true: np.ndarray
    found: np.ndarray
    matched_by_all: np.ndarray
    known: np.ndarray


def count_matches(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Returns (pairs above each threshold, int64 [thresholds]; number of true objects; of found ones).

    Args:
      true, found: integers [height, width], label maps: 0 = none, any other number an object.
    """
    true_labels, true_areas = _areas(true)
    found_labels, found_areas = _areas(found)
    both = (true > 0) & (found > 0)
    base = int(found_labels[-1]) + 1 if len(found_labels) else 1
    pairs, shared = _count(true[both].astype(np.int64) * base + found[both])
    areas = true_areas[np.searchsorted(true_labels, pairs // base)]
    union = areas + found_areas[np.searchsorted(found_labels, pairs % base)] - shared
    matched = (20 * shared[:, None] > TWENTIETHS * union[:, None]).sum(0)
    return matched, len(true_labels), len(found_labels)


def _areas(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (labels but 0, in order; the pixels of each) of a label map."""
    return _count(labels[labels > 0])


def _count(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (distinct numbers in order, how often each is there) of integers [n] that are not negative."""
    if numbers.size == 0 or numbers.max() > numbers.size:
        return np.unique(numbers, return_counts=True)
    counts = np.bincount(numbers)  # sorts nothing: labels are small as a rule
    present = np.flatnonzero(counts)
    return present, counts[present]


def count_objects(
    true_areas: np.ndarray,
    found_areas: np.ndarray,
    known: np.ndarray,
    instances: np.ndarray | None,
    splits: Sequence[int] | None = None,
    found_instances: np.ndarray | None = None,
) -> ObjectCounts:
    """Returns the counts of one image; without the axis of images.

    True objects are those of the instance map or, without one, the connected parts of the true areas; found ones
    likewise, where parts may be split (`imaging.objects.label_objects`). Of an object the known pixels count; one
    without any is none.

    Args:
      true_areas, found_areas: bool [classes, height, width].
      known: bool [height, width].
      instances: integers [height, width], 0 = none; an object of it is one of the class of its pixels. None: not known.
      splits: of each class, least distance in pixels of found objects that touch; None: those stay one.
      found_instances: as `instances`, of the prediction.
    """
    rows = []
    splits = [0] * len(true_areas) if splits is None else splits
    num_known = np.count_nonzero(known)
    for true_area, found_area, split in zip(true_areas & known, found_areas, splits, strict=True):
        true = label_objects(true_area) if instances is None else np.where(true_area, instances, 0)
        if found_instances is None:
            found = label_objects(found_area, split)
        else:
            found = np.where(found_area, found_instances, 0)
        matched, num_true, num_found = count_matches(true, np.where(known, found, 0))
        # Against one object of all known pixels, the union is always these.
        by_all = (20 * _areas(true)[1][:, None] > TWENTIETHS * num_known).sum(0)
        rows.append((matched, num_true, num_found, by_all))
    matched, true, found, by_all = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    return ObjectCounts(matched, true, found, by_all, np.array([known.any()], np.int32))


def image_f2(matched: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns each image's F2 at each threshold, float64 [images, classes, thresholds]. Arguments: `ObjectCounts`."""
    return _or_one(5 * matched, (4 * true + found)[..., None])


def image_precision(matched: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns each image's tp / (tp + fp + fn) at each threshold, see `image_f2`."""
    return _or_one(matched, (true + found)[..., None] - matched)


def _or_one(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.maximum(below, 1), 1.0)


def object_ratios(matched: np.ndarray, true: np.ndarray, found: np.ndarray) -> dict[str, Ratio]:
    """Returns the five scores, each the mean over thresholds. Arguments: those of `ObjectCounts`."""
    everything = range(len(TWENTIETHS))
    f2, precision = (score(matched, true, found).mean(2) for score in (image_f2, image_precision))
    images = np.ones_like(f2)
    return {
        **_pooled_ratios(matched, true, found, everything),
        "object_f2": Ratio(f2, images),
        "object_map": Ratio(precision, images),
    }


def threshold_ratios(matched: np.ndarray, true: np.ndarray, found: np.ndarray) -> dict[str, Ratio]:
    """Returns precision, recall, F1 and F2 at single thresholds, such as "object_f2@0.50"; see `object_ratios`."""
    ratios = {}
    f2 = image_f2(matched, true, found)
    for index, threshold in enumerate(THRESHOLDS):
        single = _pooled_ratios(matched, true, found, [index]) | {
            "object_f2": Ratio(f2[..., index], np.ones_like(f2[..., index]))
        }
        ratios |= {f"{name}@{threshold}": ratio for name, ratio in single.items()}
    return ratios


def _pooled_ratios(matched: np.ndarray, true: np.ndarray, found: np.ndarray, thresholds) -> dict[str, Ratio]:
    """Returns precision, recall and F1 of all images' objects together, a column for each class and threshold."""
    columns = [matched[..., index].astype(float) for index in thresholds]
    pairs = np.concatenate(columns, 1)
    true, found = (np.tile(counts, (1, len(columns))).astype(float) for counts in (true, found))
    return {
        "object_precision": Ratio(pairs, found),
        "object_recall": Ratio(pairs, true),
        "object_f1": Ratio(2 * pairs, true + found),
    }


def summarize_objects(counts: ObjectCounts, class_names: list[str]) -> dict[str, float | None]:
    """Returns the scores by name, in the form of metrics.json, without intervals.

    Beside the means over thresholds: single thresholds, the classes if there are several, and what predicting no pixel,
    or every pixel, would score.

    Args:
      counts: of all images.
      class_names: of the classes that are scored.
    """
    matched, true, found, by_all, known = counts
    ratios = object_ratios(matched, true, found) | threshold_ratios(matched, true, found)
    result = {name: ratio.value() for name, ratio in ratios.items()}
    if len(class_names) > 1:
        for column, class_name in enumerate(class_names):
            one = slice(column, column + 1)
            single = object_ratios(matched[:, one], true[:, one], found[:, one])
            result |= {f"{name}/{class_name}": ratio.value() for name, ratio in single.items()}
    nothing = object_ratios(np.zeros_like(matched), true, np.zeros_like(found))
    everything = object_ratios(by_all, true, np.broadcast_to(known, true.shape))
    for baseline, scores in (("nothing", nothing), ("everything", everything)):
        for name in ("object_f2", "object_map"):
            result[f"baseline_{baseline}/{name}"] = scores[name].value()
    return result
