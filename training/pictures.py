"""Predicted masks on a few validation examples, the same in every epoch, for TensorBoard."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from imaging.painting import display_image, paint_classes
from records.info import RecordsInfo
from records.schema import class_areas

_EXAMPLES = 4


@dataclass(frozen=True)
class FixedExamples:
    """A few examples to look at.

    Attributes:
      info: of the records.
      images: stored pixels [examples, height, width, channels].
      masks: [examples, height, width], as the records have them.
      window: the stored values to show as black and white; None: each image's own.
    """

    info: RecordsInfo
    images: np.ndarray
    masks: np.ndarray
    window: tuple[float, float] | None

    @staticmethod
    def choose(info: RecordsInfo, batches: tf.data.Dataset, window: tuple[float, float] | None) -> "FixedExamples":
        """Returns the first examples of the first batch of validation, those with objects before those without."""
        batch = next(batches.take(1).as_numpy_iterator())
        real = batch["weight"] > 0
        real[0] = True  # of more machines than examples some have padding alone, and must predict with the others
        images, masks = batch["image"][real], batch["mask"][real]
        areas = class_areas(masks, info.scored_classes, info.overlapping)
        order = np.argsort(~areas.any((0, 2, 3)), kind="stable")[:_EXAMPLES]
        return FixedExamples(info, images[order], masks[order], window)

    def draw(self, predictions: np.ndarray) -> np.ndarray:
        """Returns image, truth and prediction side by side, uint8 RGB [examples, height, 3 * width, 3].

        Args:
          predictions: masks, as the records have them.
        """
        rows = []
        for image, *masks in zip(self.images, self.masks, predictions, strict=True):
            shown = display_image(image, self.window)
            areas = [class_areas(mask, self.info.scored_classes, self.info.overlapping) for mask in masks]
            rows.append(np.concatenate([shown, *(paint_classes(shown, each) for each in areas)], axis=1))
        return np.stack(rows)
