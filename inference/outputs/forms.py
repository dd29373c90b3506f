"""Forms of three Kaggle competitions' files of predictions, and the samples that say which rows they want.

- airbus (Airbus Ship Detection): ImageId is the image's file name; a row for each ship, and one empty row for an image
  without. Ships are the connected areas of the mask.
- nuclei (2018 Data Science Bowl): the same of nuclei; ImageId is the name without extension.
- clouds (Understanding Clouds from Satellite Images): a row for each image and class, such as 0011165.jpg_Fish, empty
  where there is none; of 350 x 525 pixels whatever the image's size.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from inference.inputs.sources import Source, without_extension


class Form(NamedTuple):
    """What the rows of a competition's file are.

    Attributes:
      column: heading of the first column; the second is EncodedPixels.
      extension: whether images are called by their file names, else by their keys without directories.
      classes: one row each; None: one row for each object.
      size: (height, width) of the masks; None: the raw image's.
    """

    column: str
    extension: bool
    classes: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None

    def row_ids(self, image: str) -> list[str]:
        """Returns what stands in the first column for an image."""
        return [image] if self.classes is None else [f"{image}_{name}" for name in self.classes]

    def image(self, row_id: str) -> str:
        """Returns the image of a row."""
        return row_id if self.classes is None else row_id.rpartition("_")[0]


FORMS = {
    "airbus": Form("ImageId", extension=True),
    "nuclei": Form("ImageId", extension=False),
    "clouds": Form("Image_Label", extension=True, classes=("Fish", "Flower", "Gravel", "Sugar"), size=(350, 525)),
}


def read_sample(path: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Returns (heading, ids) of the first column of a sample submission, each id once, in its order.

    Args:
      path: of the CSV file.
      columns: the headings that it may have.

    Raises:
      ValueError: it cannot be read, has another heading, or no rows.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = [row[0] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"sample: {path}: expected a CSV file in UTF-8: {error}") from error
    if len(rows) < 2 or rows[0] not in columns:
        found = repr(rows[0]) if rows else "nothing"
        wanted = " or ".join(dict.fromkeys(columns))
        raise ValueError(f"sample: {path}: expected the column {wanted} and rows beneath it, found {found}")
    return rows[0], list(dict.fromkeys(rows[1:]))


def tell_form(path: str) -> tuple[str, list[str]]:
    """Returns (form, ids) of a sample submission: of classes if its heading says so; else as the images are called.

    Raises:
      ValueError: as `read_sample` does; or its ids are of no form.
    """
    column, ids = read_sample(path, [form.column for form in FORMS.values()])
    (name, *others) = (name for name, form in FORMS.items() if form.column == column)
    if others:
        with_extension = [row_id for row_id in ids if without_extension(row_id) != row_id]
        if 0 < len(with_extension) < len(ids):
            raise ValueError(
                f"sample: {path}: expected images that are all called with an extension or all without, found "
                f"{with_extension[0]!r} and {len(ids) - len(with_extension)} without"
            )
        wanted = bool(with_extension)
        name = next(name for name in (name, *others) if FORMS[name].extension == wanted)
    classes = FORMS[name].classes
    for row_id in ids if classes else []:
        if row_id.rpartition("_")[2] not in classes:
            raise ValueError(
                f"sample: {path}: expected rows of {', '.join(classes)} such as 0011165.jpg_Fish, found {row_id!r}"
            )
    return name, ids


def match_images(sources: Sequence[Source], form: Form, ids: Sequence[str], path: str) -> dict[str, str]:
    """Returns what the images of a sample are called there, by the `where` of their sources.

    Args:
      sources: pictures; others than the sample's are left out.
      form: of the sample.
      ids: of its rows.
      path: of the sample, for errors.

    Raises:
      ValueError: an image of the sample is not among the sources, or is there twice.
    """
    images = dict.fromkeys(map(form.image, ids))
    found: dict[str, str] = {}
    for source in sources:
        image = source.file if form.extension else without_extension(source.file)
        if image not in images or source.kind != "picture":
            continue
        if image in found:
            raise ValueError(
                f"sample: expected images of different names, found {image!r} for {found[image]} and {source.where}; "
                "name one of them"
            )
        found[image] = source.where
    if missing := [image for image in images if image not in found]:
        raise ValueError(
            f"sample: {path}: expected its images among the inputs, found no {missing[0]!r} there "
            f"({len(missing)} of {len(images)} are missing); name their folder or zip"
        )
    return {where: image for image, where in found.items()}
