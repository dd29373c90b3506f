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

from inference.run import TrainedModel
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
        empty: tf.Tensor,
        real: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Segments the images that are not cleared, and only those.

        Args:
          images: [batch, height, width, channels].
          segment: from such images to [batch, ...], masks or probabilities.
          empty: [...], what stands for an image that is not segmented.
          real: bool [batch], False for padding, which is not segmented either; None: there is none.

        Returns:
          (what segment returns, or `empty`, of every image; of every image "probability" of an object, float32 [batch],
          and "cleared", bool [batch]).
        """
        probabilities = object_probabilities(self.model, images)
        # In float64: rounded to float32 a threshold between two probabilities may become one of them.
        cleared = tf.cast(probabilities, tf.float64) < self.threshold
        kept = ~cleared if real is None else ~cleared & real
        places = tf.where(kept, tf.cumsum(tf.cast(kept, tf.int32)) - 1, tf.reduce_sum(tf.cast(kept, tf.int32)))

        def segment_kept():
            # Each where its image is in the batch; all others get the one behind the last.
            segmented = segment(tf.boolean_mask(images, kept))
            return tf.gather(tf.concat([segmented, empty[tf.newaxis]], 0), places)

        def segment_none():
            return tf.repeat(empty[tf.newaxis], tf.shape(images)[0], 0)

        segmented = tf.cond(tf.reduce_any(kept), segment_kept, segment_none)
        return segmented, {"probability": probabilities, "cleared": cleared}


def check_gate(gate: TrainedModel, trained: TrainedModel, gate_run: str, run: str) -> None:
    """Raises ValueError unless the gate is a classifier for the images, or the tiles, that the other one segments.

    What validated one must not have trained the other: its threshold is found there.
    """
    if gate.task != "classify":
        raise ValueError(f"gate: expected a run of --task classify, found {gate_run} of --task {gate.task}")
    for member in (trained, *trained.others):
        for name in ("channels", "dtype", "intensity", "classes", "overlapping", "fingerprint", "fold"):
            wanted, found = getattr(member, name), getattr(gate, name)
            if wanted != found:
                raise ValueError(
                    f"gate: {run} was trained on records with {name} {wanted}, but {gate_run} on some with {found}; "
                    "train both on the same records and fold"
                )
    if gate.crop != trained.crop:
        sizes = [f"crops of {crop}" if crop else "whole images" for crop in (trained.crop, gate.crop)]
        raise ValueError(
            f"gate: {run} was trained on {sizes[0]}, but {gate_run} on {sizes[1]}; "
            "train both with the same --input.crop"
        )


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
