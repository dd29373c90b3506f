"""What is judged of each image's and each volume's shapes: objects and boundaries.

It takes longer than a small network takes to predict the image, so it runs in worker processes: nothing here imports
TensorFlow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evaluation.boundary import Distances, class_distances
from evaluation.objects import ObjectCounts, count_objects
from imaging.codec import decode_mask
from records.schema import class_areas, known_pixels


class ShapeTask(NamedTuple):
    """What is to be judged of images or slices, the same for all.

    Attributes:
      classes: indices of those that are scored.
      overlapping: whether masks are bit fields.
      objects, distances: whether to judge them.
    """

    classes: list[int]
    overlapping: bool
    objects: bool
    distances: bool


class ImageMasks(NamedTuple):
    """Truth and prediction of one image.

    Attributes:
      truth, prediction: [height, width], uint8 class indices or uint16 bit fields.
      instances: PNG of the instance map; empty where there is none.
      spacing_mm: between its rows, its columns, and the slices of its volume; None: not known.
      splits: of each class that is scored, see `count_objects`.
      found_instances: integers [height, width], predicted objects of the one class that is scored; None: the connected
        parts of the prediction.
    """

    truth: np.ndarray
    prediction: np.ndarray
    instances: bytes
    spacing_mm: tuple[float, float, float] | None
    splits: Sequence[int] | None = None
    found_instances: np.ndarray | None = None


class Shapes(NamedTuple):
    """What was found, of one image without an axis of images; None: not judged."""

    objects: ObjectCounts | None
    distances: Distances | None


def judge_images(task: ShapeTask, images: Sequence[ImageMasks]) -> list[Shapes]:
    """Returns the shapes of images, each for itself."""
    return [_judge_image(task, image) for image in images]


def _judge_image(task: ShapeTask, image: ImageMasks) -> Shapes:
    known = known_pixels(image.truth, task.overlapping)
    true, found = (class_areas(mask, task.classes, task.overlapping) for mask in (image.truth, image.prediction))
    objects = distances = None
    if task.objects:
        # An instance map says nothing of the objects beneath, which have pixels of their own where classes overlap.
        instances = decode_mask(image.instances) if image.instances and not task.overlapping else None
        objects = count_objects(true, found, known, instances, image.splits, image.found_instances)
    if task.distances:
        distances = class_distances(true & known, found & known, image.spacing_mm and image.spacing_mm[:2])
    return Shapes(objects, distances)


def judge_volume(task: ShapeTask, slices: dict[int, ImageMasks]) -> Distances:
    """Returns the distances in a volume.

    A slice that lacks between others keeps its place, and is outside of every area.

    Args:
      task: what is judged.
      slices: by their index; all of one size and spacing.
    """
    first, last = min(slices), max(slices)
    a_slice = slices[first]
    shape = (len(task.classes), last - first + 1, *a_slice.truth.shape)
    true, found = np.zeros(shape, bool), np.zeros(shape, bool)
    for index, image in slices.items():
        known = known_pixels(image.truth, task.overlapping)
        true[:, index - first] = class_areas(image.truth, task.classes, task.overlapping) & known
        found[:, index - first] = class_areas(image.prediction, task.classes, task.overlapping) & known
    spacing = a_slice.spacing_mm
    return class_distances(true, found, spacing and (spacing[2], *spacing[:2]))
