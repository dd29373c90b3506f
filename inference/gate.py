"""A gate: a classifier that clears images of all suspicion, so that nothing is segmented in them.

Used wherever masks are predicted, so that a pair of gate and segmenter predicts the same everywhere.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import keras

from model.classifier import CLASSIFIER_LABELS
from training.run_folder import write_text


@dataclass(frozen=True)
class Gate:
    """A classifier and what it takes to clear an image.

    Attributes:
      model: from images [batch, height, width, channels] of stored pixel values to logits [batch, 1, 1, 1].
      threshold: images whose probability of an object is lower are cleared; 0 clears none.
    """

    model: keras.Model
    threshold: float = 0.0

    def apply(
        self,
        images: tf.Tensor,
        segment: Callable[[tf.Tensor], tf.Tensor],
        mask_dtype: tf.DType,
        real: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Segments the images that are not cleared, and only those.

        Args:
          images: [batch, height, width, channels].
          segment: from such images to their masks [batch, height, width], whose zeros mean that there is nothing.
          mask_dtype: of these.
          real: bool [batch], False for padding, which is not segmented either; None: there is none.

        Returns:
          "prediction": masks, of zeros where images were not segmented; "probability" of an object, float32 [batch];
          "cleared" bool [batch].
        """
        probabilities = object_probabilities(self.model, images)
        # In float64: rounded to float32 a threshold between two probabilities may become one of them.
        cleared = tf.cast(probabilities, tf.float64) < self.threshold
        kept = ~cleared if real is None else ~cleared & real
        places = tf.where(kept, tf.cumsum(tf.cast(kept, tf.int32)) - 1, tf.reduce_sum(tf.cast(kept, tf.int32)))

        def scatter(masks):
            """Puts masks where their images are in the batch; all others get the one behind the last, of zeros."""
            return tf.gather(tf.pad(masks, [[0, 1], [0, 0], [0, 0]]), places)

        def segment_kept():
            return scatter(segment(tf.boolean_mask(images, kept)))

        def segment_none():
            return tf.zeros(tf.shape(images)[:3], mask_dtype)

        masks = tf.cond(tf.reduce_any(kept), segment_kept, segment_none)
        return {"prediction": masks, "probability": probabilities, "cleared": cleared}


def read_tuned(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what test.py found for a gate: its "threshold", and its effect on validation.

    Args:
      path: gate.json in a RUN folder.
      identity: what it must have been found for; None is returned if it was for something else, or is damaged.
    """
    try:
        tuned = json.loads(path.read_text())
        found = {name: tuned[name] for name in identity}
        return tuned if found == identity and tuned["threshold"] >= 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_tuned(path: Path, tuned: dict[str, Any]) -> None:
    """Writes what `read_tuned` reads, with its identity, as a file that is whole or not there at all."""
    write_text(path, json.dumps(tuned, indent=2) + "\n")


def object_probabilities(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Returns a classifier's probabilities that there is an object, float32 [batch]."""
    return CLASSIFIER_LABELS.probabilities(model(images, training=False))[:, 0, 0, 0]
