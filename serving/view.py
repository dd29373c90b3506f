"""What the web page draws: JSON with the areas and the probabilities of every class."""

import base64
import gzip
import json
from typing import Any

import numpy as np

from imaging.codec import encode_png
from imaging.painting import display_image
from imaging.volume import encode_volume, volume_from_slices
from inference.inputs.frames import Frame
from inference.outputs.found import Found
from inference.run import TrainedModel
from serving.answers import ObjectsAnswer

_Layers = list[tuple[np.ndarray, np.ndarray]]
"""Of each class its area, 0 and 1, and its probability in levels, uint8 [height, width]."""


class ViewAnswer(ObjectsAnswer):
    """The answer in JSON, and `serving.schema.View` with it."""

    def __init__(self, trained: TrainedModel, classes: list[str] | None):
        super().__init__(trained, classes, "polygon")
        self._layers: list[_Layers] = []

    def write(self, found: Found) -> tuple[Frame, dict[str, Any], _Layers]:
        """Returns what is told of a frame, and what is drawn of it."""
        layers = [(found.areas[name].astype(np.uint8), _levels(found.probability(name))) for name in self._names]
        return *super().write(found), layers

    def collect(self, result: tuple[Frame, dict[str, Any], _Layers]) -> None:
        """Takes the next frame's."""
        super().collect(result[:2])
        self._layers.append(result[2])

    def finish(self) -> tuple[bytes, str]:
        """Returns the JSON."""
        view: dict[str, Any] = {"areas": {}, "probabilities": {}}
        for index, name in enumerate(self._names):
            areas, levels = zip(*(layers[index] for layers in self._layers), strict=True)
            view["areas"][name] = self._encode(areas)
            view["probabilities"][name] = self._encode(levels)
        if self._frame.scan is None:
            shown = display_image(self._frame.image, self._trained.stored_window)
            view["image"] = _text(encode_png(shown))
        return json.dumps(self.tell() | {"view": view}).encode(), "application/json"

    def _encode(self, slices: tuple[np.ndarray, ...]) -> str:
        if self._frame.scan is None:
            return _text(gzip.compress(slices[0].tobytes(), 1))
        geometry = self._frame.scan.geometry
        return _text(encode_volume(volume_from_slices(list(slices), geometry), geometry))


def view_bytes(pixels: int, num_classes: int) -> int:
    """Returns what a view of that many pixels or voxels takes beside its masks, estimated.

    Of each class its two layers, and as much again for their text, though most compress better; and a picture in floats
    while its contrast is stretched.
    """
    return pixels * (48 + 4 * num_classes)


def _levels(probability: np.ndarray) -> np.ndarray:
    """Returns uint8: at least k exactly where the probability is at least k/256, for every k up to 255."""
    return np.minimum(np.floor(probability * 256), 255).astype(np.uint8)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
