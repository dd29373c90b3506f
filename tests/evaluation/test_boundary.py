"""Distances between boundaries, against cases worked by hand, scikit-image and a plain computation with SciPy."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial.distance import cdist
from skimage.metrics import hausdorff_distance

from evaluation.boundary import Distances, boundary, boundary_distances, class_distances, summarize_distances


def square(y: int, x: int, side: int, size: int = 20) -> np.ndarray:
    area = np.zeros([size, size], bool)
    area[y : y + side, x : x + side] = True
    return area


def blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Some boxes, one upon the other, never empty."""
    generator, area = np.random.default_rng(seed), np.zeros(shape, bool)
    for _ in range(4):
        starts = [generator.integers(0, length - 3) for length in shape]
        area[tuple(slice(start, start + generator.integers(2, 8)) for start in starts)] = True
    return area


def directed(true: np.ndarray, found: np.ndarray, spacing) -> np.ndarray:
    """Distances from the first boundary to the second: from a map of distances, with edges found by neighbours."""
    edges = [area & ~binary_erosion(np.pad(area, 1))[(slice(1, -1),) * area.ndim] for area in (true, found)]
    return distance_transform_edt(~edges[1], sampling=spacing)[edges[0]]


def test_a_boundary_is_what_has_a_neighbour_outside():
    area = square(1, 1, 4, 6)
    assert boundary(area).sum() == 12
    assert not boundary(area)[2:4, 2:4].any()
    assert boundary(np.ones([3, 3], bool)).sum() == 8  # beyond the image is outside
    assert boundary(np.ones([3, 3, 3], bool)).sum() == 26
    assert boundary(np.eye(3, dtype=bool)).sum() == 3


def test_two_pixels_are_as_far_apart_as_they_are():
    one, other = np.zeros([5, 6], bool), np.zeros([5, 6], bool)
    one[0, 0] = other[3, 4] = True
    assert boundary_distances(one, other) == (5.0, 5.0)
    assert boundary_distances(one, other, (2.0, 0.5)) == (pytest.approx(np.hypot(6, 2)),) * 2


def test_lines_side_by_side_are_worked_by_hand():
    # 20 pixels, and 10 of them two rows below: from the ten all are 2 away; of the twenty ten are, and the others 1 to
    # 10 columns farther.
    true, found = np.zeros([5, 20], bool), np.zeros([5, 20], bool)
    true[1], found[3, :10] = True, True
    far = [2.0] * 10 + [np.hypot(2, step) for step in range(1, 11)]
    hausdorff, average = boundary_distances(true, found)
    assert hausdorff == pytest.approx(np.percentile(far, 95))
    assert average == pytest.approx((sum(far) + 10 * 2.0) / 30)


@pytest.mark.parametrize("shape", [(24, 30), (12, 14, 16)])
@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_those_of_a_distance_map(shape, seed):
    true, found = blobs(seed, shape), blobs(seed + 10, shape)
    spacing = (2.5, 0.7, 1.3)[: len(shape)]
    there, back = directed(true, found, spacing), directed(found, true, spacing)
    hausdorff, average = boundary_distances(true, found, spacing)
    assert hausdorff == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert average == pytest.approx(np.concatenate([there, back]).mean())


@pytest.mark.parametrize("shape", [(24, 30), (12, 14, 16)])
def test_the_largest_distance_is_scikit_images_and_95_percent_is_less(shape, monkeypatch):
    true, found = blobs(3, shape), blobs(4, shape)
    below = boundary_distances(true, found)[0]
    percentile = np.percentile
    monkeypatch.setattr(np, "percentile", lambda values, share: percentile(values, 100))
    largest = boundary_distances(true, found)[0]
    assert largest == pytest.approx(hausdorff_distance(boundary(true), boundary(found)))
    assert 0 < below < largest


def test_all_pairs_of_pixels_say_the_same():
    true, found = blobs(5, (20, 20)), blobs(6, (20, 20))
    pairs = cdist(np.argwhere(boundary(true)), np.argwhere(boundary(found)))
    expected = max(np.percentile(pairs.min(1), 95), np.percentile(pairs.min(0), 95))
    assert boundary_distances(true, found)[0] == pytest.approx(expected)


def test_truth_and_prediction_are_alike_and_spacing_scales():
    true, found = blobs(7, (20, 24)), blobs(8, (20, 24))
    assert boundary_distances(true, found) == pytest.approx(boundary_distances(found, true))
    assert boundary_distances(true, true) == (0.0, 0.0)
    doubled = boundary_distances(true, found, (2.0, 2.0))
    assert doubled == pytest.approx([2 * value for value in boundary_distances(true, found)])
    turned = boundary_distances(true.T, found.T, (1.5, 0.5))
    assert turned == pytest.approx(boundary_distances(true, found, (0.5, 1.5)))


def test_without_both_areas_there_is_no_distance_and_one_alone_is_counted():
    full, empty = square(2, 2, 5), np.zeros([20, 20], bool)
    pairs = [(full, full), (full, empty), (empty, full), (empty, empty)]
    found = class_distances(np.stack([true for true, _ in pairs]), np.stack([found for _, found in pairs]))
    assert np.isnan(found.values).all(1).tolist() == [False, True, True, True]
    assert found.one_sided.tolist() == [False, True, True, False]


def test_scores_are_means_over_images_then_over_classes():
    # The first class is 1 and 3 away in two images; the second 8 in one, and was missed in the other.
    values = np.array([[[1.0, 0.5], [8.0, 4.0]], [[3.0, 1.5], [np.nan, np.nan]]])
    scores = summarize_distances(Distances(values, np.isnan(values[..., 0])), ["lung", "heart"])
    assert scores == {
        "hausdorff95": 5.0,
        "surface_distance": 2.5,
        "hausdorff95/lung": 2.0,
        "surface_distance/lung": 1.0,
        "hausdorff95/heart": 8.0,
        "surface_distance/heart": 4.0,
        "num_distances": 3,
        "num_without_distance": 1,
    }


def test_nowhere_a_distance_is_no_score():
    nothing = Distances(np.full([2, 1, 2], np.nan), np.array([[True], [False]]))
    assert summarize_distances(nothing, ["lung"], "volume_") == {
        "volume_hausdorff95": None,
        "volume_surface_distance": None,
        "num_volume_distances": 0,
        "num_volume_without_distance": 1,
    }
