"""What a choice of steps would score on the validation images; runs in worker processes, without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.objects import ObjectCounts, count_objects, object_ratios
from evaluation.statistics import overlap_ratios
from evaluation.tuning.spool import Kept, read_image
from imaging.codec import decode_mask
from inference.postprocess import Postprocess, Steps, clean_mask, object_splits
from records.schema import class_areas, known_pixels

PIXEL_METRICS = ("dice_per_image", "dice_nonempty", "dice_pooled", "iou_per_image", "iou_nonempty", "iou_pooled")
OBJECT_METRICS = ("object_f1", "object_f2", "object_map")


class Task(NamedTuple):
    """What is judged.

    Attributes:
      metric: one of PIXEL_METRICS or OBJECT_METRICS.
      numbers: of the scored classes.
      overlapping: whether masks are bit fields.
    """

    metric: str
    numbers: list[int]
    overlapping: bool

    @property
    def of_objects(self) -> bool:
        """Whether objects are judged, not pixels."""
        return self.metric in OBJECT_METRICS


def judge_candidates(task: Task, paths: Sequence[Path], number: int, candidates: Sequence[Steps]) -> list[np.ndarray]:
    """Returns of each image the counts of a class with each of several steps, int64 [candidates, counts].

    They are (tp, fp, fn) in pixels or, of objects, those of `ObjectCounts` one after another.
    """
    return [_judge_image(task, read_image(path), number, candidates) for path in paths]


def _judge_image(task: Task, image: Kept, number: int, candidates: Sequence[Steps]) -> np.ndarray:
    known = known_pixels(image.truth, task.overlapping)
    true = class_areas(image.truth, [number], task.overlapping)
    rows = []
    for steps in candidates:
        found = steps.clean(image.area(number, steps.threshold, task.overlapping))[np.newaxis]
        rows.append(_count(task, image, true, found, known, [steps.split]))
    return np.stack(rows)


def judge_together(task: Task, paths: Sequence[Path], choices: Sequence[Postprocess]) -> list[np.ndarray]:
    """Returns of each image the counts of all classes with each choice, int64 [choices, classes, counts]."""
    results = []
    for path in paths:
        image = read_image(path)
        known = known_pixels(image.truth, task.overlapping)
        true = class_areas(image.truth, task.numbers, task.overlapping)
        rows = []
        for choice in choices:
            found = class_areas(_mask(task, image, choice), task.numbers, task.overlapping)
            splits = object_splits(choice, task.numbers)
            columns = [slice(index, index + 1) for index in range(len(task.numbers))]
            rows.append([_count(task, image, true[one], found[one], known, splits[one]) for one in columns])
        results.append(np.array(rows))
    return results


def _mask(task: Task, image: Kept, choice: Postprocess) -> np.ndarray:
    """Returns the mask [height, width] that a choice makes, as `Predictor.masks` would."""
    if image.softmax:
        mask = image.classify({number: steps.threshold for number, steps in choice.items()})
    else:
        mask = np.zeros(image.truth.shape, image.truth.dtype)
        for number in task.numbers:
            area = image.area(number, choice.get(number, Steps()).threshold, task.overlapping)
            mask |= area.astype(mask.dtype) << number if task.overlapping else area.astype(mask.dtype) * number
    return clean_mask(mask, choice, task.overlapping)


def _count(
    task: Task, image: Kept, true: np.ndarray, found: np.ndarray, known: np.ndarray, splits: Sequence[int]
) -> np.ndarray:
    """Returns the counts of one class, from its areas bool [1, height, width]."""
    if not task.of_objects:
        true, found = (area & known for area in (true, found))
        return np.array([(true & found).sum(), (~true & found).sum(), (true & ~found).sum()])
    instances = decode_mask(image.instances) if image.instances and not task.overlapping else None
    counts = count_objects(true, found, known, instances, splits)
    return np.concatenate([np.ravel(count) for count in counts])


def score_counts(metric: str, counts: np.ndarray) -> float:
    """Returns a metric from what was counted, int64 [images, classes, counts]; 0 where it is 0/0."""
    if metric in PIXEL_METRICS:
        ratio = overlap_ratios(*np.moveaxis(counts.astype(np.float64), -1, 0))[metric]
    else:
        thresholds = (counts.shape[-1] - 3) // 2
        bounds = np.cumsum([thresholds, 1, 1, thresholds])
        matched, true, found, by_all, known = np.split(counts, bounds, -1)
        each = ObjectCounts(matched, true[..., 0], found[..., 0], by_all, known[..., 0])
        ratio = object_ratios(*each[:3])[metric]
    return ratio.value() or 0.0
