"""Tables of images and groups, the worst first."""

from typing import Any, NamedTuple

import pandas as pd

from evaluation.report.files import Evaluation

WORST_IMAGES, MOST_GROUPS = 50, 200

_COLUMNS = {
    "source_id": ("image", None),
    "group": ("group", None),
    "cleared": ("cleared by the gate", None),
    "images": ("images", 0),
    "probability": ("probability", 4),
    "truth": ("truth", 0),
    "dice": ("Dice", 3),
    "lowest": ("lowest Dice of an image", 3),
    "volume_dice": ("Dice of all together", 3),
    "iou": ("IoU", 3),
    "volume_iou": ("IoU of all together", 3),
    "true": ("true pixels", 0),
    "missed": ("missed pixels", 0),
    "invented": ("invented pixels", 0),
    "objects_true": ("true objects", 0),
    "objects_found": ("found objects", 0),
    "object_f2": ("F2 of objects", 3),
    "object_map": ("average precision", 3),
    "hausdorff95": ("Hausdorff 95 %", 1),
    "surface_distance": ("surface distance", 2),
}


class Column(NamedTuple):
    """A column's heading, and whether it holds numbers."""

    heading: str
    numeric: bool


class Cell(NamedTuple):
    """What a cell shows, and the value by which it is sorted; both empty where nothing was measured."""

    text: str
    value: str


class Table(NamedTuple):
    """A table of a page, which a reader can sort."""

    name: str
    columns: list[Column]
    rows: list[list[Cell]]


def image_table(evaluation: Evaluation) -> Table | None:
    """Returns the images with the lowest Dice; None of a classifier, whose answers have none."""
    if "dice" not in evaluation.images:
        return None
    images = evaluation.images.copy()
    images["true"] = evaluation.pixels("tp") + evaluation.pixels("fn")
    if "cleared" in images:
        images["cleared"] = images["cleared"].map({True: "yes", False: "no"})
    images["missed"], images["invented"] = evaluation.pixels("fn"), evaluation.pixels("fp")
    if not evaluation.grouped:
        images = images.drop(columns="group", errors="ignore")
    worst = images.sort_values(["dice", "source_id"]).head(WORST_IMAGES)
    return _make_table("images", worst, evaluation.metrics)


def group_table(evaluation: Evaluation) -> Table | None:
    """Returns the groups with the lowest mean Dice; None where no group holds several images."""
    if not evaluation.grouped or "dice" not in evaluation.images:
        return None
    by_group = evaluation.images.groupby("group", sort=True)
    groups = by_group.agg(images=("dice", "size"), dice=("dice", "mean"), lowest=("dice", "min")).reset_index()
    if evaluation.groups is not None:
        # There, scores are of the group's images together.
        together = evaluation.groups.rename(columns={"dice": "volume_dice", "iou": "volume_iou"})
        groups = groups.merge(together.drop(columns="images", errors="ignore"), "left", "group")
    worst = groups.sort_values(["dice", "group"]).head(MOST_GROUPS)
    return _make_table("groups", worst, evaluation.metrics)


def _make_table(name: str, frame: pd.DataFrame, metrics: dict[str, Any]) -> Table:
    columns = [(column, *_COLUMNS[column]) for column in _COLUMNS if column in frame]
    headings = []
    for column, heading, digits in columns:
        unit = metrics.get("distance_unit") if column in ("hausdorff95", "surface_distance") else None
        headings.append(Column(f"{heading}, {unit}" if unit else heading, digits is not None))
    cells = [[_cell(value, digits) for value in frame[column]] for column, _, digits in columns]
    return Table(name, headings, [list(row) for row in zip(*cells, strict=True)])


def _cell(value: Any, digits: int | None) -> Cell:
    if pd.isna(value):
        return Cell("", "")
    if digits is None:
        return Cell(str(value), str(value))
    return Cell(f"{value:,.{digits}f}", repr(float(value)))
