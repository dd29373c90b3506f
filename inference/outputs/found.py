"""What was found in a frame: its areas, its objects, and where their files go."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from imaging.objects import label_objects
from inference.images import Prediction
from inference.inputs.frames import Frame
from inference.postprocess import Steps
from inference.run import TrainedModel
from records.schema import class_areas


class Object(NamedTuple):
    """An object of a class.

    Attributes:
      number: its label in the class's `Found.labels`.
      window: rows and columns of its bounding box.
      area: bool [rows, columns], its pixels in the window.
      score: mean probability of its pixels.
    """

    number: int
    window: tuple[slice, slice]
    area: np.ndarray
    score: float


@dataclass(frozen=True)
class Found:
    """A frame, and what was found in it.

    Attributes:
      frame: the image.
      prediction: its mask and probabilities, of the image's size.
      trained: the model.
    """

    frame: Frame
    prediction: Prediction
    trained: TrainedModel

    @cached_property
    def areas(self) -> dict[str, np.ndarray]:
        """Pixels of the scored classes by name, bool [height, width]."""
        classes = self.trained.scored_classes
        areas = class_areas(self.prediction.mask, list(classes), self.trained.overlapping)
        return dict(zip(classes.values(), areas, strict=True))

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Objects of the scored classes by name, int32 [height, width]: 0 none, 1, 2 ... in each."""
        steps = self.prediction.postprocess
        classes = self.trained.scored_classes.items()
        return {name: label_objects(self.areas[name], steps.get(number, Steps()).split) for number, name in classes}

    def probability(self, name: str) -> np.ndarray:
        """Returns float32 [height, width], the probability of a scored class."""
        outputs = self.prediction.probabilities
        number = next(number for number, known in self.trained.scored_classes.items() if known == name)
        return outputs[..., number if outputs.shape[-1] > 1 else 0]

    def objects(self, name: str) -> Iterator[Object]:
        """Yields the objects of a scored class, in the order of their labels."""
        from scipy.ndimage import find_objects

        labels, probability = self.labels[name], self.probability(name)
        for number, window in enumerate(find_objects(labels), 1):
            if window is None:
                continue
            area = labels[window] == number
            yield Object(number, window, area, float(probability[window][area].mean()))


def place(folder: Path, name: str, ending: str) -> Path:
    """Returns where a frame's file goes, and makes its folder. Names and classes in endings lead nowhere else."""
    parts = [part if part not in ("..", "/") else "_" for part in PurePosixPath(name).parts] or ["_"]
    path = folder.joinpath(*parts)
    path = path.with_name(path.name + ending.replace("/", "_"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
