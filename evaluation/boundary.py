"""Distances between the boundaries of two areas, of an image or of a volume.

The boundary of an area is those of its pixels that have a neighbour outside of it, across an edge (a face, in a
volume). What lies beyond the image, and what is ignored, is outside. With d(a, B) the Euclidean distance of the pixel a
to the nearest of B's boundary:

  Hausdorff 95 % = the larger of the 95th percentiles of d(a, B) over A's boundary and of d(b, A) over B's
  (Metrics Reloaded, Maier-Hein et al. 2024; percentiles interpolate linearly);
  average symmetric surface distance = the mean of both boundaries' distances together (Heimann et al. 2009).

Neither is defined unless both areas have pixels. Where both are empty there was nothing to measure; where one is, an
infinite distance would drown all others: both are left out of the means, and the latter are counted
(`num_without_distance`), because a model that predicts nothing would seem to have no error.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from evaluation.statistics import Ratio

DISTANCES = ("hausdorff95", "surface_distance")


class Distances(NamedTuple):
    """Distances of images or volumes.

    Attributes:
      values: float64 [images, classes, 2], as `DISTANCES` names them; NaN where truth or prediction is empty.
      one_sided: bool [images, classes], where one of them is, but not both.
    """

    values: np.ndarray
    one_sided: np.ndarray


def boundary(area: np.ndarray) -> np.ndarray:
    """Returns the pixels of an area, bool of any number of axes, that have a neighbour outside of it."""
    padded = np.pad(area, 1)
    inside = area.copy()
    for axis, length in enumerate(area.shape):
        rows = padded[tuple(slice(None) if other == axis else slice(1, -1) for other in range(area.ndim))]
        for start in (0, 2):  # the neighbours before and behind
            inside &= rows[(slice(None),) * axis + (slice(start, start + length),)]
    return area & ~inside


def boundary_distances(
    true: np.ndarray, found: np.ndarray, spacing: Sequence[float] | None = None
) -> tuple[float, float] | None:
    """Returns (Hausdorff 95 %, average symmetric surface distance); None where either area is empty.

    Args:
      true, found: bool, of one shape.
      spacing: distance between neighbours along each axis, the unit of the result; None: 1, so pixels.
    """
    if not (true.any() and found.any()):
        return None
    scale = np.ones(true.ndim) if spacing is None else np.asarray(spacing, float)
    points = [_pixels(boundary(area)) * scale for area in (true, found)]
    there = cKDTree(points[1]).query(points[0])[0]
    back = cKDTree(points[0]).query(points[1])[0]
    farthest = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(farthest), float((there.sum() + back.sum()) / (len(there) + len(back)))


def _pixels(area: np.ndarray) -> np.ndarray:
    """Returns the places [n, axes] of the pixels of an area: np.argwhere, which takes several times as long."""
    return np.stack(np.unravel_index(np.flatnonzero(area), area.shape), 1)


def class_distances(
    true_areas: np.ndarray, found_areas: np.ndarray, spacing: Sequence[float] | None = None
) -> Distances:
    """Returns the distances of each class, without the axis of images.

    Args:
      true_areas, found_areas: bool [classes, ...], without ignored pixels.
      spacing: see `boundary_distances`.
    """
    pairs = zip(true_areas, found_areas, strict=True)
    values = [boundary_distances(true, found, spacing) or (np.nan, np.nan) for true, found in pairs]
    sides = [areas.reshape(len(areas), -1).any(1) for areas in (true_areas, found_areas)]
    return Distances(np.array(values), sides[0] != sides[1])


def distance_ratios(values: np.ndarray, prefix: str = "") -> dict[str, Ratio]:
    """Returns the mean of each distance over the images where it is defined. Arguments: see `Distances.values`."""
    defined = ~np.isnan(values)
    return {
        f"{prefix}{name}": Ratio(np.where(defined, values, 0.0)[..., index], defined[..., index].astype(float))
        for index, name in enumerate(DISTANCES)
    }


def summarize_distances(distances: Distances, class_names: list[str], prefix: str = "") -> dict[str, float | None]:
    """Returns the scores by name, in the form of metrics.json, without intervals; of each class if there are several.

    Args:
      distances: of all images or volumes.
      class_names: of the classes that are scored.
      prefix: of the names.
    """
    result: dict[str, float | None] = {
        name: ratio.value() for name, ratio in distance_ratios(distances.values, prefix).items()
    }
    if len(class_names) > 1:
        for column, class_name in enumerate(class_names):
            single = distance_ratios(distances.values[:, column : column + 1], prefix)
            result |= {f"{name}/{class_name}": ratio.value() for name, ratio in single.items()}
    result[f"num_{prefix}distances"] = int((~np.isnan(distances.values[..., 0])).sum())
    result[f"num_{prefix}without_distance"] = int(distances.one_sided.sum())
    return result
