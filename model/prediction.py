"""Logits to probabilities to classes."""

import tensorflow as tf


def probabilities(logits: tf.Tensor) -> tf.Tensor:
    """Returns float32 probabilities of the logits' shape [..., outputs]: sigmoid of one output, softmax of several."""
    logits = tf.cast(logits, tf.float32)
    return tf.sigmoid(logits) if logits.shape[-1] == 1 else tf.nn.softmax(logits)


def classify(probabilities: tf.Tensor, threshold: float) -> tf.Tensor:
    """Returns the predicted class of every pixel, uint8 [...].

    With one output, class 1 where its probability reaches the threshold; with several, the most probable class.
    """
    if probabilities.shape[-1] == 1:
        return tf.cast(probabilities[..., 0] >= threshold, tf.uint8)
    return tf.cast(tf.argmax(probabilities, -1), tf.uint8)
