"""Reading TensorBoard's files of a RUN folder."""

from pathlib import Path

import tensorflow as tf


def step_losses(tensorboard: Path) -> dict[int, float]:
    """Returns the loss of each step; of a step that was done twice, before and after a resume, the later one."""
    losses = {}
    for path in sorted(tensorboard.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag == "step/loss":
                    losses[event.step] = float(tf.make_ndarray(value.tensor))
    return losses
