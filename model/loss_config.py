"""Settings of the loss. Imports no TensorFlow, so that --help is quick."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from model.settings import refuse_unread

LossName = Literal["bce", "focal", "dice", "jaccard", "tversky", "focal_tversky", "lovasz", "boundary"]

# Which losses read a setting.
_READ_BY = {
    "class_weights": ("bce", "focal"),
    "label_smoothing": ("bce",),
    "focal_alpha": ("focal",),
    "focal_gamma": ("focal",),
    "tversky_alpha": ("tversky", "focal_tversky"),
    "tversky_beta": ("tversky", "focal_tversky"),
    "focal_tversky_gamma": ("focal_tversky",),
    "boundary_reach": ("boundary",),
}


@dataclass(frozen=True)
class LossConfig:
    """What training minimises: a weighted sum of losses."""

    terms: dict[LossName, float] = field(default_factory=lambda: {"bce": 1.0, "dice": 1.0})
    """Losses and their weights in the sum, e.g. '{bce: 1, dice: 1}', of: bce (softmax cross-entropy with more than two
    exclusive classes), focal, dice, jaccard, tversky, focal_tversky, lovasz, boundary."""
    class_weights: list[float] | Literal["balanced"] | None = None
    """Of bce and focal: how much a pixel of each class counts, the background's first; balanced: as much as its class
    is rare among the training split's pixels. Of overlapping classes, what a pixel counts where it holds the class."""
    label_smoothing: float = 0.0
    """Of bce: share of the truth that is spread evenly over the classes."""
    focal_alpha: float | None = 0.25
    """Of focal, with sigmoids: weight of pixels that hold the class, 1 - it that of all others; null: all weigh 1. With
    a softmax, class_weights are in its place."""
    focal_gamma: float = 2.0
    """Of focal: how strongly pixels that are right already are weighed down."""
    tversky_alpha: float = 0.3
    """Of tversky and focal_tversky: weight of false positives."""
    tversky_beta: float = 0.7
    """Of tversky and focal_tversky: weight of false negatives."""
    focal_tversky_gamma: float = 4 / 3
    """Of focal_tversky: the loss is Tversky's to the power of 1 / it."""
    boundary_reach: float | None = None
    """Of boundary: the distance, in pixels, beyond which it grows no more, nor does its cost; null: the whole image."""

    def __post_init__(self):
        choices = get_args(LossName)
        unknown = [name for name in self.terms if name not in choices]
        if unknown or not self.terms:
            found = ", ".join(map(str, unknown)) or "none"
            raise ValueError(f"loss.terms: expected one or more of {', '.join(choices)}; found {found}")
        for name, weight in self.terms.items():
            if not 0 < weight < math.inf:
                raise ValueError(f"loss.terms: expected weights above 0, found {name}: {weight}; leave it out instead")
        if isinstance(self.class_weights, list):
            _check_class_weights(self.class_weights)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"loss.label_smoothing: expected a share from 0 to below 1, found {self.label_smoothing}")
        if self.focal_alpha is not None and not 0 < self.focal_alpha < 1:
            raise ValueError(f"loss.focal_alpha: expected a share between 0 and 1, or null, found {self.focal_alpha}")
        # Between 0 and 1 the gradient of (1 - p)^gamma is infinite at p = 1.
        for name in ("focal_gamma", "focal_tversky_gamma"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"loss.{name}: expected at least 1, found {getattr(self, name)}")
        for name in ("tversky_alpha", "tversky_beta"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"loss.{name}: expected a weight above 0, found {getattr(self, name)}")
        if self.boundary_reach is not None and not 0 < self.boundary_reach < math.inf:
            raise ValueError(f"loss.boundary_reach: expected pixels above 0, or null, found {self.boundary_reach}")
        readers = {
            name: (set(losses) & set(self.terms), f"{' or '.join(losses)} among loss.terms")
            for name, losses in _READ_BY.items()
        }
        refuse_unread(self, "loss", readers)


def _check_class_weights(weights: list[float]) -> None:
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"loss.class_weights: expected numbers of at least 0, not all of them 0, found {weights}")
