"""Where a run stands: everything a resume needs besides weights and optimizer."""

import json
from dataclasses import asdict, dataclass, field, fields

import tensorflow as tf


@dataclass
class TrainState(tf.train.experimental.PythonState):
    """Position, counters and history of a run; saved inside the checkpoint, so never older or newer than the weights.

    Attributes:
      epoch: the epoch under way, from 0.
      step: steps done in it.
      best_score: highest validation Dice, or F1 of a classifier, so far; best_epoch: when.
      plateau_wait: epochs since the last best or reduction; plateau_scale: product of the reductions.
      finished: training has ended.
      epoch_seconds, epoch_wait: time spent in the epoch under way, and of it waiting for input.
      loss_sum: of the epoch under way.
      num_lost: damaged records that are left out.
      history: one dict per finished epoch.
    """

    epoch: int = 0
    step: int = 0
    best_score: float = -1.0
    best_epoch: int = 0
    plateau_wait: int = 0
    plateau_scale: float = 1.0
    finished: bool = False
    epoch_seconds: float = 0.0
    epoch_wait: float = 0.0
    loss_sum: float = 0.0
    num_lost: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def serialize(self) -> bytes:
        """Returns the state as tf.train.Checkpoint stores it."""
        return json.dumps(asdict(self)).encode()

    def deserialize(self, value: bytes) -> None:
        """Takes over a stored state."""
        content = json.loads(value)
        for item in fields(self):
            setattr(self, item.name, content[item.name])
