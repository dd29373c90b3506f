"""What was found in an upload's frames → the body of an answer.

An answer has `write(found)`, called in threads for each frame, `collect(result)`, called in the order of the frames,
and `finish()`, which returns (body, media type).
"""

import json
from typing import Any

import numpy as np

from imaging.codec import encode_indexed_png, encode_png
from imaging.painting import display_image, paint_classes
from imaging.rle import encode_objects
from imaging.volume import encode_volume, volume_from_slices
from inference.inputs.frames import Frame
from inference.outputs.found import Found
from inference.outputs.pictures import mask_palettes
from inference.outputs.shapes import outlines
from inference.run import TrainedModel
from serving.errors import RefusedError
from serving.schema import AnswerKind, Shape

MOST_OBJECTS = 2**16
"""Of an answer in JSON: noise below a low threshold has millions."""
MOST_EDGES = 2**22
"""Of the outlines of a class, each between two pixels."""

_KINDS: dict[tuple[str, str], AnswerKind] = {
    ("application/json", ""): "objects",
    ("application/*", ""): "objects",
    ("*/*", ""): "objects",
    ("image/png", ""): "mask",
    ("image/*", ""): "mask",
    ("application/gzip", ""): "mask",
    ("application/json", "view"): "view",
    ("image/png", "overlay"): "overlay",
}
"""Answers by media type and its parameter `profile`."""


def choose_answer(accept: str) -> AnswerKind:
    """Returns which answer a header Accept prefers; of equal ones the first.

    Raises:
      RefusedError: 406, it knows none.
    """
    best, most = None, 0.0
    for entry in (accept or "*/*").split(","):
        media, *parameters = (part.strip().lower() for part in entry.split(";"))
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        kind = _KINDS.get((media, values.get("profile", "").strip('"')))
        try:
            quality = float(values.get("q", "1"))
        except ValueError:
            continue
        if kind is not None and quality > most:
            best, most = kind, quality
    if best is None:
        raise RefusedError(
            406,
            "accept: expected application/json, image/png, image/png;profile=overlay, "
            "application/gzip or application/json;profile=view",
        )
    return best


class MaskAnswer:
    """The class numbers as an indexed PNG, as predict.py writes them; of a scan as NIfTI on its grid.

    Of one class: its number, else 0; where classes overlap 1, else 0.
    """

    def __init__(self, trained: TrainedModel, classes: list[str] | None):
        names = classes or list(trained.scored_classes.values())
        if trained.overlapping and len(names) > 1:
            raise RefusedError(422, f"class: expected one of {', '.join(names)}, for masks of classes that overlap")
        self._trained, self._names, self._chosen = trained, names, classes is not None or trained.overlapping
        self._palette = mask_palettes(trained)[names[0] if trained.overlapping else ""]
        self._slices: list[np.ndarray] = []
        self._frame: Frame | None = None

    def write(self, found: Found) -> tuple[Frame, np.ndarray]:
        """Returns the mask of a frame."""
        mask = found.prediction.mask
        if self._trained.overlapping:
            mask = found.areas[self._names[0]].astype(np.uint8)
        elif self._chosen:
            mask = np.where(np.any([found.areas[name] for name in self._names], axis=0), mask, 0).astype(mask.dtype)
        return found.frame, mask

    def collect(self, result: tuple[Frame, np.ndarray]) -> None:
        """Takes the mask of the next frame."""
        self._frame = result[0]
        self._slices.append(result[1])

    def finish(self) -> tuple[bytes, str]:
        """Returns the file."""
        if self._frame.scan is None:
            return encode_indexed_png(self._slices[0], self._palette), "image/png"
        geometry = self._frame.scan.geometry
        return encode_volume(volume_from_slices(self._slices, geometry), geometry), "application/gzip"


class OverlayAnswer:
    """The image with the classes painted over it; of a scan the slice with most of them."""

    def __init__(self, trained: TrainedModel, classes: list[str] | None):
        self._trained = trained
        self._names = classes or list(trained.scored_classes.values())
        self._most, self._fullest = -1, None

    def write(self, found: Found) -> tuple[int, Found]:
        """Returns how many pixels are painted, and on what."""
        return sum(int(np.count_nonzero(found.areas[name])) for name in self._names), found

    def collect(self, result: tuple[int, Found]) -> None:
        """Keeps the frame with most of them."""
        if result[0] > self._most:
            self._most, self._fullest = result

    def finish(self) -> tuple[bytes, str]:
        """Returns the picture."""
        found = self._fullest
        # All classes are painted, those not asked for with no pixel: so each has its own colour.
        areas = np.stack([area & (name in self._names) for name, area in found.areas.items()])
        shown = display_image(found.frame.image, self._trained.stored_window)
        return encode_png(paint_classes(shown, areas)), "image/png"


def _check_edges(labels: np.ndarray) -> None:
    """Raises RefusedError for objects whose outlines would be larger than any picture: a checkerboard is one object."""
    edges = np.count_nonzero(labels[:, 1:] != labels[:, :-1]) + np.count_nonzero(labels[1:] != labels[:-1])
    if edges > MOST_EDGES:
        raise RefusedError(
            422, f"expected outlines of at most {MOST_EDGES} edges, found {edges}; ask for the mask, or for shape=rle"
        )


class ObjectsAnswer:
    """JSON, see `serving.schema.Answer`."""

    def __init__(self, trained: TrainedModel, classes: list[str] | None, shape: Shape):
        self._trained, self._shape = trained, shape
        self._names = classes or list(trained.scored_classes.values())
        self._rows: list[dict[str, Any]] = []
        self._frame: Frame | None = None

    def write(self, found: Found) -> tuple[Frame, dict[str, Any]]:
        """Returns what is told of a frame."""
        pixels = {name: int(np.count_nonzero(found.areas[name])) for name in self._names}
        row: dict[str, Any] = {"pixels": pixels, "cleared": found.prediction.cleared, "objects": []}
        if found.frame.scan is None:
            row["counts"] = {name: int(found.labels[name].max(initial=0)) for name in self._names}
            if (count := sum(row["counts"].values())) > MOST_OBJECTS:
                raise RefusedError(
                    422, f"expected at most {MOST_OBJECTS} objects, found {count}; ask for the mask, or for one class"
                )
            row["objects"] = [one for name in self._names for one in self._objects(found, name)]
        return found.frame, row

    def _objects(self, found: Found, name: str) -> list[dict[str, Any]]:
        labels = found.labels[name]
        if self._shape == "polygon":
            _check_edges(labels)
        polygons = outlines(labels) if self._shape == "polygon" else {}
        codes = encode_objects(labels) if self._shape == "rle" else []
        objects = []
        for one in found.objects(name):
            rows, columns = one.window
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            told = {"class": name, "score": round(one.score, 4), "pixels": int(np.count_nonzero(one.area)), "bbox": box}
            if self._shape == "polygon":
                told["polygon"] = polygons[one.number]
            elif self._shape == "rle":
                told["rle"] = codes[one.number - 1]
            objects.append(told)
        return objects

    def collect(self, result: tuple[Frame, dict[str, Any]]) -> None:
        """Takes the next frame's."""
        self._frame, row = result
        self._rows.append(row)

    def finish(self) -> tuple[bytes, str]:
        """Returns the JSON."""
        return json.dumps(self.tell()).encode(), "application/json"

    def tell(self) -> dict[str, Any]:
        """Returns the content of the JSON."""
        frame, first = self._frame, self._rows[0]
        height, width = frame.image.shape[:2]
        image: dict[str, Any] = {"height": height, "width": width}
        answer = {
            "image": image,
            "cleared": all(row["cleared"] for row in self._rows),
            "classes": {},
            "objects": first["objects"],
        }
        for name in self._names:
            pixels = sum(row["pixels"][name] for row in self._rows)
            told = {"pixels": pixels, "share": pixels / (height * width * len(self._rows))}
            if frame.scan is None:
                told["objects"] = first["counts"][name]
            else:
                told["volume_ml"] = pixels * float(np.prod(frame.spacing_mm)) / 1000
            answer["classes"][name] = told
        if frame.scan is not None:
            image |= {"slices": len(self._rows), "spacing_mm": list(frame.spacing_mm)}
            answer["slices"] = [{"index": index, "pixels": row["pixels"]} for index, row in enumerate(self._rows)]
        return answer
