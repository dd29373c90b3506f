"""All scores of an evaluation, in the form of metrics.json."""

import numpy as np

from evaluation.boundary import distance_ratios, summarize_distances
from evaluation.calibration import summarize_calibration
from evaluation.objects import object_ratios, summarize_objects
from evaluation.statistics import Ratio, bootstrap, overlap_ratios, summarize
from evaluation.tally import Judged, Volumes

Scores = dict[str, float | list[float] | str | None]


def summarize_all(judged: Judged, class_names: list[str], seed: int) -> Scores:
    """Returns all scores by name.

    Args:
      judged: the images.
      class_names: of the classes that are scored.
      seed: of the bootstrap, which draws whole groups.
    """
    groups = np.array(judged.groups)
    scores: Scores = dict(summarize(judged.counts, groups, class_names, seed))
    if judged.objects is not None:
        scores |= summarize_objects(judged.objects, class_names)
        scores |= _intervals(object_ratios(*judged.objects[:3]), groups, seed)
    if judged.distances is not None:
        scores |= {"distance_unit": judged.distance_unit, **summarize_distances(judged.distances, class_names)}
        scores |= _intervals(distance_ratios(judged.distances.values), groups, seed)
    if judged.calibration is not None:
        scores |= summarize_calibration(judged.calibration, class_names)
    if judged.volumes is not None:
        scores |= _summarize_volumes(judged.volumes, class_names, seed)
    return scores


def _summarize_volumes(volumes: Volumes, class_names: list[str], seed: int) -> Scores:
    groups = np.array([key.group for key in volumes.keys])
    tp, fp, fn, tn, _, _ = volumes.counts
    ratios = _volume_ratios(tp, fp, fn)
    scores: Scores = {"num_volumes": len(groups), **{name: ratio.value() for name, ratio in ratios.items()}}
    if len(class_names) > 1:
        for column, class_name in enumerate(class_names):
            one = slice(column, column + 1)
            single = _volume_ratios(tp[:, one], fp[:, one], fn[:, one])
            scores |= {f"{name}/{class_name}": ratio.value() for name, ratio in single.items()}
    nothing, everything = np.zeros_like(tp), np.zeros_like(fn)
    scores["baseline_nothing/volume_dice"] = _volume_ratios(nothing, nothing, tp + fn)["volume_dice"].value()
    scores["baseline_everything/volume_dice"] = _volume_ratios(tp + fn, fp + tn, everything)["volume_dice"].value()
    if volumes.distances is not None:
        scores |= summarize_distances(volumes.distances, class_names, "volume_")
        ratios |= distance_ratios(volumes.distances.values, "volume_")
    return scores | _intervals(ratios, groups, seed)


def _volume_ratios(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> dict[str, Ratio]:
    """Returns the scores of volumes as those of images, from the pixels of all slices."""
    ratios = overlap_ratios(tp, fp, fn)
    return {"volume_dice": ratios["dice_per_image"], "volume_iou": ratios["iou_per_image"]}


def _intervals(ratios: dict[str, Ratio], groups: np.ndarray, seed: int) -> Scores:
    return {f"{name}_ci95": bounds for name, bounds in bootstrap(ratios, groups, seed).items()}
