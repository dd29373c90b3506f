"""What makes masks of probabilities: a threshold for each class, and steps that clean what it gives.

`python -m evaluation.tune` chooses them on validation, in RUN/postprocess.json; whatever predicts with RUN uses them.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from training.run_folder import write_text

PLAIN_THRESHOLD = 0.5


@dataclass(frozen=True)
class Steps:
    """What is done to one class, in this order. Lengths are pixels of the records."""

    threshold: float = PLAIN_THRESHOLD
    """Probability from which a pixel belongs to the class; of more than two exclusive classes the share that it has of
    its own and the most probable other class, see `Labels.classify`."""
    opening: int = 0
    """Radius of a disk: what is too thin for it to fit in goes."""
    closing: int = 0
    """Radius of a disk: gaps too thin for it to fit in are closed."""
    fill_holes: bool = False
    """Whether holes that the class surrounds belong to it."""
    min_size: int = 0
    """Connected parts of fewer pixels are left out."""
    largest: bool = False
    """Whether only the largest connected part stays."""
    split: int = 0
    """Least distance between the centres of touching objects, which are told apart; 0: they are one. Of objects only:
    the pixels of the class stay the same."""

    def __post_init__(self):
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected a probability between 0 and 1, found {self.threshold}")
        for name in ("opening", "closing", "min_size", "split"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, found {getattr(self, name)}")

    def clean(self, area: np.ndarray) -> np.ndarray:
        """Returns the pixels of a class, bool [height, width], after the steps, of those above the threshold."""
        if self.opening:
            area = _morph(area, cv2.MORPH_OPEN, self.opening)
        if self.closing:
            area = _morph(area, cv2.MORPH_CLOSE, self.closing)
        if self.fill_holes:
            area = ndimage.binary_fill_holes(area)
        if self.min_size > 1 or self.largest:
            area = _large_parts(area, self.min_size, self.largest)
        return area

    @property
    def cleans(self) -> bool:
        """Whether `clean` does anything."""
        return bool(self.opening or self.closing or self.fill_holes or self.min_size > 1 or self.largest)

    def stretched(self, area: float) -> "Steps":
        """Returns the steps for images stretched to `area` times as many pixels."""
        side = math.sqrt(area)
        radii = {name: round(getattr(self, name) * side) for name in ("opening", "closing")}
        split = max(1, round(self.split * side)) if self.split else 0  # 0 would mean not to split
        return dataclasses.replace(self, **radii, split=split, min_size=round(self.min_size * area))


Postprocess = dict[int, Steps]
"""Steps of the scored classes, by mask value or bit. A class that lacks has the plain ones."""


def clean_mask(mask: np.ndarray, postprocess: Postprocess, overlapping: bool) -> np.ndarray:
    """Returns a predicted mask after the steps of its classes, one class after another.

    Of exclusive classes what a step takes away becomes background, and what it adds is taken from the background only.

    Args:
      mask: [height, width], uint8 class indices or, if overlapping, uint16 bit fields.
      postprocess: steps by class.
      overlapping: whether masks are bit fields.
    """
    for number, steps in postprocess.items():
        if not steps.cleans:
            continue
        mask = merge_area(mask, steps.clean(class_area(mask, number, overlapping)), number, overlapping)
    return mask


def class_area(mask: np.ndarray, number: int, overlapping: bool) -> np.ndarray:
    """Returns where a mask as `clean_mask` takes it holds a class, bool [height, width]."""
    return mask & np.uint16(1 << number) > 0 if overlapping else mask == number


def merge_area(mask: np.ndarray, area: np.ndarray, number: int, overlapping: bool) -> np.ndarray:
    """Returns a mask in which a class has this area, bool [height, width], as far as no other class has it."""
    if overlapping:
        bit = np.uint16(1 << number)
        return np.where(area, mask | bit, mask & ~bit)
    mask = np.where(mask == number, np.uint8(0), mask)
    mask[area & (mask == 0)] = number
    return mask


def object_splits(postprocess: Postprocess, classes: Iterable[int]) -> list[int]:
    """Returns of each of these classes the least distance of objects that touch."""
    return [postprocess.get(number, Steps()).split for number in classes]


def stretch(postprocess: Postprocess, area: float) -> Postprocess:
    """Returns the steps for images stretched to `area` times as many pixels."""
    return {number: steps.stretched(area) for number, steps in postprocess.items()}


def read_postprocess(path: Path, way: str, digest: str, classes: dict[int, str]) -> Postprocess | None:
    """Returns what was chosen on validation; None: nothing, or for other weights.

    Args:
      path: postprocess.json in a RUN folder.
      way: how it is predicted, such as "tta".
      digest: of the model, or models.
      classes: names of the scored classes.

    Raises:
      ValueError: the file is damaged.
    """
    content = _read(path)
    if way not in content:
        return None
    try:
        if content[way]["model_sha256"] != digest:
            return None
        chosen = content[way]["classes"]
        return {number: Steps(**chosen[name]) for number, name in classes.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected steps of each class ({error}); run `python -m evaluation.tune` again"
        ) from error


def chosen_ways(path: Path) -> list[str]:
    """Returns for which ways to predict something was chosen, for whatever weights; see `read_postprocess`."""
    return list(_read(path))


def write_postprocess(path: Path, way: str, choice: dict[str, Any]) -> None:
    """Writes what `read_postprocess` reads, beside what was chosen for other ways to predict.

    Args:
      path: postprocess.json in a RUN folder.
      way: how it is predicted.
      choice: "model_sha256", "classes": {name: steps as a dict}, and what else should be known of it.
    """
    write_text(path, json.dumps(_read(path) | {way: choice}, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or not all(isinstance(choice, dict) for choice in content.values()):
            raise ValueError("expected choices by name")
        return content
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and run `python -m evaluation.tune` again") from error


def _morph(area: np.ndarray, operation: int, radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)  # OpenCV's own is wider than it is high
    return cv2.morphologyEx(area.astype(np.uint8), operation, disk) > 0


def _large_parts(area: np.ndarray, min_size: int, largest: bool) -> np.ndarray:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    sizes = stats[:, cv2.CC_STAT_AREA]
    sizes[0] = 0
    stays = sizes >= max(min_size, 1)
    if largest:
        stays &= np.arange(len(sizes)) == sizes.argmax()
    return stays[parts]
