"""Examples that the tests of the losses share."""

import math

import numpy as np
import pytest
import tensorflow as tf

from model.labels import IGNORE, IGNORE_BIT, Labels

BINARY, THREE, OVERLAPPING = Labels(2), Labels(3), Labels(3, overlapping=True)
KINDS = pytest.mark.parametrize("labels", [BINARY, THREE, OVERLAPPING], ids=["binary", "three", "overlapping"])

# Four pixels of which two are objects: TP = 0.8 + 0.25, FP = 0.5 + 0.1, FN = 0.2 + 0.75.
FOUR_MASKS = tf.constant([[[1, 0], [0, 1]]], tf.uint8)
FOUR_CHANCES = (0.8, 0.5, 0.1, 0.25)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


FOUR_LOGITS = tf.constant([logit(chance) for chance in FOUR_CHANCES], shape=[1, 2, 2, 1])

# Two pixels, of classes 2 and 0, with probabilities 1/6, 2/6, 3/6 and 4/10, 1/10, 5/10.
TWO_MASKS = tf.constant([[[2, 0]]], tf.uint8)
TWO_LOGITS = tf.constant([[[[0, math.log(2), math.log(3)], [math.log(4), 0, math.log(5)]]]], tf.float32)


def random_example(labels: Labels, seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (masks without ignored pixels, float32 logits)."""
    generator = np.random.default_rng(seed)
    values, dtype = (2**labels.num_classes, np.uint16) if labels.overlapping else (labels.num_classes, np.uint8)
    masks = generator.integers(0, values, shape).astype(dtype)
    return masks, generator.normal(size=[*shape, labels.outputs]).astype(np.float32)


def ignored(labels: Labels, masks: np.ndarray, where) -> np.ndarray:
    """Returns the masks with the pixels at `where`, a NumPy index, ignored."""
    masks = masks.copy()
    masks[where] = masks[where] | IGNORE_BIT if labels.overlapping else IGNORE
    return masks


def with_gradient(loss, masks, logits) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (loss, its gradient for the logits)."""
    masks, logits = tf.convert_to_tensor(masks), tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(masks, logits)
    return value, tape.gradient(value, logits)
