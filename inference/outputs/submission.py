"""A competition's file of predictions, in the forms that `inference.outputs.forms` tells.

The code numbers pixels from 1, column by column (`imaging.rle`). Pixels that touch at a corner are connected, so no two
rows of an image share a pixel but those of clouds, whose classes may overlap.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from imaging.objects import label_objects
from imaging.resize import resize_mask
from imaging.rle import encode_objects, encode_rle
from inference.outputs.files import csv_rows, whole_file
from inference.outputs.forms import FORMS, Form
from inference.outputs.found import Found
from inference.postprocess import Postprocess, Steps
from inference.run import TrainedModel
from records.schema import class_areas


def check_model(trained: TrainedModel, name: str) -> None:
    """Raises ValueError if the model predicts no masks that the form of this name has rows for."""
    if trained.task == "classify":
        raise ValueError("submission: expected a run that segments, found one of --task classify, which has no masks")
    form, names = FORMS[name], list(trained.scored_classes.values())
    if form.classes is None and len(names) != 1:
        raise ValueError(
            f"submission: expected a model of one class for {name}, found {', '.join(names)}; train on records of one"
        )
    if form.classes is not None and not set(names) <= set(form.classes):
        raise ValueError(
            f"submission: expected a model of the classes {', '.join(form.classes)} for {name}, "
            f"found {', '.join(names)}; choose the form of its dataset"
        )


def encode_rows(
    image: str, mask: np.ndarray, form: Form, trained: TrainedModel, postprocess: Postprocess
) -> Iterator[tuple[str, list[str]]]:
    """Yields (id, run-length codes) of an image's rows.

    Args:
      image: what it is called.
      mask: of the raw image, as `Predictor.masks` yields it.
      form: of the file.
      trained: the model.
      postprocess: the steps that made the mask.
    """
    if form.size is not None:
        mask = resize_mask(mask, *form.size)
    numbers, overlapping = trained.scored_classes, trained.overlapping
    if form.classes is None:
        (number,) = numbers
        area = class_areas(mask, [number], overlapping)[0]
        yield image, encode_objects(label_objects(area, postprocess.get(number, Steps()).split))
        return
    areas = dict(zip(numbers.values(), class_areas(mask, list(numbers), overlapping), strict=True))
    for row_id, name in zip(form.row_ids(image), form.classes, strict=True):
        yield row_id, [encode_rle(areas[name])] if name in areas else []


class SubmissionRows:
    """Rows of a submission in any order, until all are there."""

    def __init__(self, path: Path, form: Form):
        """Takes the path of the file to be, whose folder is there, and its form."""
        self._path, self._form = path, form
        # On the disk, because the rows of all images would fill the memory; a file without a name goes by itself.
        self._spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed with this object)
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def add(self, row_id: str, codes: list[str]) -> None:
        """Takes the rows of an id; without code one that is empty."""
        data = csv_rows((row_id, code) for code in codes or [""])
        self._places[row_id] = (self._end, len(data))
        self._end += self._spool.write(data)

    def write(self, ids: Iterable[str]) -> None:
        """Writes the file with the rows of these ids, in their order; of those that nothing is known of empty ones."""
        with whole_file(self._path) as file:
            file.write(csv_rows([(self._form.column, "EncodedPixels")]))
            for row_id in ids:
                start, length = self._places.get(row_id, (0, 0))
                self._spool.seek(start)
                file.write(self._spool.read(length) or csv_rows([(row_id, "")]))

    def close(self) -> None:
        """Forgets the rows."""
        self._spool.close()


class Submission:
    """submission.csv: the rows of a sample, in its order. Images that could not be predicted have empty ones."""

    def __init__(self, folder: Path, trained: TrainedModel, name: str, ids: list[str], images: dict[str, str]):
        """Takes the folder, the model, the form's name, the sample's ids, and the images' names by `Frame.where`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._form, self._trained, self._ids, self._images = FORMS[name], trained, ids, images
        self._rows = SubmissionRows(folder / "submission.csv", self._form)

    def write(self, found: Found) -> list[tuple[str, list[str]]]:
        """Returns the rows of an image."""
        mask, postprocess = found.prediction.mask, found.prediction.postprocess
        return list(encode_rows(self._images[found.frame.where], mask, self._form, self._trained, postprocess))

    def collect(self, result: list[tuple[str, list[str]]]) -> None:
        """Takes what `write` returned."""
        for row_id, codes in result:
            self._rows.add(row_id, codes)

    def close(self) -> None:
        """Writes the file."""
        self._rows.write(self._ids)
        self._rows.close()
