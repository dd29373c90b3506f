"""Submission files: predicted masks as run-length code, in the forms of three Kaggle competitions.

- airbus (Airbus Ship Detection): ImageId is the image's file name; a row for each ship, and one empty row for an image
  without. Ships are the connected areas of the mask.
- nuclei (2018 Data Science Bowl): the same of nuclei; ImageId is the name without extension.
- clouds (Understanding Clouds from Satellite Images): a row for each image and class, such as 0011165.jpg_Fish, empty
  where there is none; of 350 x 525 pixels whatever the image's size.

The code numbers pixels from 1, column by column (`imaging.rle`). Pixels that touch at a corner are connected, so no two
rows of an image share a pixel but those of clouds, whose classes may overlap.
"""

import contextlib
import csv
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from evaluation.config import EvalConfig
from evaluation.folder import SUBMISSION_FILE
from evaluation.forms import FORMS, Form
from evaluation.raw_images import Place, RawJoiner, read_raw_images
from imaging.objects import label_objects
from imaging.resize import resize_mask
from imaging.rle import encode_objects, encode_rle
from inference.postprocess import Postprocess, Steps
from inference.predictor import Batch, Predictor
from inference.run import TrainedModel
from records.info import RecordsInfo
from records.schema import class_areas


def check_submission(trained: TrainedModel, config: EvalConfig) -> None:
    """Raises ValueError if the model predicts no masks that the chosen submission file has rows for."""
    if config.submission is None:
        return
    if trained.task == "classify":
        raise ValueError("submission: expected a run that segments, found one of --task classify, which has no masks")
    form, names = FORMS[config.submission], list(trained.scored_classes.values())
    if form.classes is None and len(names) != 1:
        raise ValueError(
            f"submission: expected a model of one class for {config.submission}, found {', '.join(names)}; "
            "train on records of one"
        )
    if form.classes is not None and not set(names) <= set(form.classes):
        raise ValueError(
            f"submission: expected a model of the classes {', '.join(form.classes)} for {config.submission}, "
            f"found {', '.join(names)}; choose the form of its dataset"
        )


@contextlib.contextmanager
def write_submission(
    folder: Path, predictor: Predictor, records: str, info: RecordsInfo, config: EvalConfig
) -> Iterator[Callable[[Batch], None]]:
    """Yields a function that takes batches of predictions; when it is left without an error, writes submission.csv.

    Without --submission the function does nothing.

    Args:
      folder: of the evaluation.
      predictor: the model, and how masks are made of its probabilities.
      records: their folder.
      info: of the records.
      config: says which form, which split and which rows.

    Yields:
      A function of batches as `Predictor.probabilities` yields them, in the records' order.

    Raises:
      ValueError: the model has other classes, the records do not hold whole images, or the sample asks for images that
        are not there.
    """
    check_submission(predictor.trained, config)
    if config.submission is None:
        yield lambda batch: None
        return
    form = FORMS[config.submission]
    images = read_raw_images(records, info, config.split, form.extension, "submission")
    known = [row_id for image in images.names for row_id in form.row_ids(image)]
    wanted = known if config.sample is None else _read_sample(config.sample, form, known, records, config.split)
    # On the disk, because the rows of all images would fill the memory; a file without a name goes by itself.
    with tempfile.TemporaryFile(dir=folder) as spool:
        rows = _Rows(spool)

        def write(place: Place, mask: np.ndarray, postprocess: Postprocess) -> None:
            for row_id, codes in _encode(place.image, mask, form, predictor.trained, postprocess):
                rows.write(row_id, codes or [""])

        joiner = RawJoiner(predictor, images, write)
        yield joiner.add
        joiner.finish()
        temporary = folder / f"{SUBMISSION_FILE}.part"
        with temporary.open("wb") as file:
            file.write(_csv_rows([(form.column, "EncodedPixels")]))
            for row_id in wanted:
                # Images that were found to be damaged have no record: nothing is known to be in them.
                file.write(rows.read(row_id) or _csv_rows([(row_id, "")]))
        temporary.replace(folder / SUBMISSION_FILE)


class _Rows:
    """Rows of a CSV file by the id in their first column, kept in a file."""

    def __init__(self, file):
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def write(self, row_id: str, codes: list[str]) -> None:
        data = _csv_rows([(row_id, code) for code in codes])
        self._places[row_id] = (self._end, len(data))
        self._end += self._file.write(data)

    def read(self, row_id: str) -> bytes | None:
        if row_id not in self._places:
            return None
        start, length = self._places[row_id]
        self._file.seek(start)
        return self._file.read(length)


def _encode(
    image: str, mask: np.ndarray, form: Form, trained: TrainedModel, postprocess: Postprocess
) -> Iterator[tuple[str, list[str]]]:
    """Yields (id, run-length codes) of an image's rows, from the mask of the raw image."""
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


def _read_sample(path: str, form: Form, known: list[str], records: str, split: str) -> list[str]:
    """Returns the ids in the first column of a sample submission, each once, in its order.

    Raises:
      ValueError: it cannot be read, is of another form, is empty, or has ids that are not known.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [row[0] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"sample: {path}: expected a CSV file in UTF-8: {error}") from error
    if len(rows) < 2 or rows[0] != form.column:
        found = repr(rows[0]) if rows else "nothing"
        raise ValueError(f"sample: {path}: expected the column {form.column} and rows beneath it, found {found}")
    ids = list(dict.fromkeys(rows[1:]))
    there = set(known)
    if missing := [row_id for row_id in ids if row_id not in there]:
        raise ValueError(
            f"sample: {path}: expected images of split {split} of {records}, found {missing[0]!r}, which is none "
            f"({len(missing)} of {len(ids)} ids); make records of them with `python -m preprocess --unlabeled --sample`"
        )
    return ids


def _csv_rows(rows: list[tuple[str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
