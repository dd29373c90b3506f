"""The confusion matrix as a table."""

from typing import Literal, NamedTuple

from evaluation.folder import NO_CLASS
from evaluation.report.files import Evaluation


class Cell(NamedTuple):
    """A predicted class: its pixels, their share of the true class, and whether they are right.

    Where classes overlap, "either": a pixel of two classes that is given both counts as each beside the other, too.
    """

    predicted: str
    pixels: int
    share: float
    kind: Literal["right", "wrong", "either"]


class Row(NamedTuple):
    """A true class, what its pixels count, and what they were given to."""

    true: str
    pixels: int
    cells: list[Cell]


class Confusion(NamedTuple):
    """A matrix, and whether a pixel may be of several classes, or of none."""

    rows: list[Row]
    overlapping: bool


def confusion_matrix(evaluation: Evaluation) -> Confusion | None:
    """Returns the matrix of confusion.csv; None where there is none."""
    matrix = evaluation.confusion
    if matrix is None:
        return None
    overlapping = matrix.columns[-1] == NO_CLASS and NO_CLASS not in evaluation.class_names
    rows = []
    for true, counts in matrix.iterrows():
        total = int(counts.sum())
        cells = [
            Cell(predicted, int(pixels), pixels / max(1, total), _kind(true, predicted, overlapping))
            for predicted, pixels in counts.items()
        ]
        rows.append(Row(true, total, cells))
    return Confusion(rows, overlapping)


def _kind(true: str, predicted: str, overlapping: bool) -> Literal["right", "wrong", "either"]:
    if true == predicted:
        return "right"
    return "either" if overlapping and NO_CLASS not in (true, predicted) else "wrong"
