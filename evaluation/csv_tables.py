"""Scores of every image and every group, a row each."""

import warnings

import numpy as np
import pandas as pd

from evaluation.boundary import DISTANCES
from evaluation.objects import image_f2, image_precision
from evaluation.statistics import Counts, image_scores
from evaluation.tally import Judged, Volumes
from evaluation.volumes import sum_counts

_PIXELS = ("tp", "fp", "fn")


def per_image_table(judged: Judged, class_names: list[str]) -> pd.DataFrame:
    """Returns one row per image: its scores and pixel counts, with columns for each class where there are several.

    A distance that is not defined is NaN.
    """
    columns = {"source_id": judged.keys, "group": judged.groups}
    if judged.cleared is not None:
        columns["cleared"] = judged.cleared
    columns |= _image_columns(judged, slice(None))
    if len(class_names) > 1:
        columns = {name: values for name, values in columns.items() if name not in _PIXELS}
        for number, class_name in enumerate(class_names):
            one = _image_columns(judged, slice(number, number + 1))
            columns |= {f"{name}/{class_name}": values for name, values in one.items()}
    return pd.DataFrame(columns)


def per_group_table(judged: Judged, class_names: list[str]) -> pd.DataFrame | None:
    """Returns one row per group: its scores, from the pixels of all its images; None where no group has several.

    Distances are the mean over the group's volumes, NaN where they are not defined.
    """
    names, counts = sum_counts(judged.counts, judged.groups)
    if len(names) == len(judged.groups):
        return None
    images = pd.Series(judged.groups).value_counts()
    columns = {"group": names, "images": images[names].to_numpy(), **_group_columns(judged, counts, slice(None))}
    if len(class_names) > 1:
        for number, class_name in enumerate(class_names):
            one = _group_columns(judged, counts, slice(number, number + 1))
            columns |= {f"{name}/{class_name}": values for name, values in one.items()}
    return pd.DataFrame(columns)


def _image_columns(judged: Judged, classes: slice) -> dict[str, np.ndarray]:
    """Returns each image's scores, the mean over the classes, and its numbers of pixels and objects, their sum."""
    columns = _overlap_columns(judged.counts, classes)
    columns |= {name: getattr(judged.counts, name)[:, classes].sum(1).astype(np.int64) for name in _PIXELS}
    if judged.objects is not None:
        matched, true, found = (values[:, classes] for values in judged.objects[:3])
        columns |= {"objects_true": true.sum(1), "objects_found": found.sum(1)}
        columns["object_f2"] = image_f2(matched, true, found).mean((1, 2))
        columns["object_map"] = image_precision(matched, true, found).mean((1, 2))
    if judged.distances is not None:
        means = _mean_defined(judged.distances.values[:, classes], 1)
        columns |= {name: means[:, index] for index, name in enumerate(DISTANCES)}
    return columns


def _group_columns(judged: Judged, counts: Counts, classes: slice) -> dict[str, np.ndarray]:
    columns = _overlap_columns(counts, classes)
    if judged.volumes is not None and judged.volumes.distances is not None:
        means = _group_distances(judged.volumes, classes)
        columns |= {name: means[:, index] for index, name in enumerate(DISTANCES)}
    return columns


def _overlap_columns(counts: Counts, classes: slice) -> dict[str, np.ndarray]:
    dice, iou, _ = image_scores(*(values[:, classes] for values in counts[:3]))
    return {"dice": dice.mean(1), "iou": iou.mean(1)}


def _group_distances(volumes: Volumes, classes: slice) -> np.ndarray:
    """Returns float64 [groups, 2]; groups in order."""
    groups = np.array([key.group for key in volumes.keys])
    means = _mean_defined(volumes.distances.values[:, classes], 1)
    return np.stack([_mean_defined(means[groups == group], 0) for group in np.unique(groups)])


def _mean_defined(values: np.ndarray, axis: int) -> np.ndarray:
    """Returns the mean along an axis without NaN; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing
        return np.nanmean(values, axis=axis)
