"""Settings of the choice."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TuneConfig:
    """How the choice is made."""

    metric: Literal[
        "dice_per_image",
        "dice_nonempty",
        "dice_pooled",
        "iou_per_image",
        "iou_nonempty",
        "iou_pooled",
        "object_f1",
        "object_f2",
        "object_map",
    ] = "dice_per_image"
    """The score that is to be high on validation; of several classes each is tuned by itself."""
    min_gain: float = 0.001
    """A step is taken only where it adds more than this to the score."""
    tta: bool = False
    """Choose for predictions with --tta."""
    ensemble: tuple[str, ...] = ()
    """Choose for predictions with this --ensemble."""
    batch_size: int = 16
    """Images at once."""
    overlap: float = 0.5
    """Of models for crops: share of a tile that its neighbour sees as well."""
    workers: int | None = None
    """Processes that try out steps. Null: one less than there are CPUs, at most 8; 0: none but this one."""

    def __post_init__(self):
        if self.min_gain < 0:
            raise ValueError(f"min_gain: expected at least 0, found {self.min_gain}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers: expected at least 0, or null, found {self.workers}")
