"""What test.py has left of a judged run, and whether two were judged on the same."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.folder import EVALUATED_FILE, METRICS_FILE, PER_IMAGE_FILE
from evaluation.statistics import Ratio, overlap_ratios
from evaluation.terminal import describe_classes

ACCURACY = "accuracy"
"""Of a classifier's answer: 1 = right, 0 = wrong."""

_LOWER_IS_BETTER = ("hausdorff95", "surface_distance")
_NO_SCORES = ("tp", "fp", "fn", "objects_true", "objects_found", "probability", "truth", "y", "x", "height", "width")
_POOLED = {
    "dice": ("dice_pooled", "{} pooled"),
    "iou": ("iou_pooled", "{} pooled"),
    ACCURACY: ("dice_pooled", "f1"),  # the Dice of answers is their F1
}
"""By score of an image: the ratio of all together, and what it is called."""


@dataclass(frozen=True)
class Judged:
    """A run's evaluation on one split.

    Attributes:
      name: of the run, as the user gave it.
      metrics: content of metrics.json.
      images: content of per_image.csv, a row per image; by source_id, of a classifier's tiles by source_id@y,x. Of a
        classifier with a column `accuracy`, and its answers counted as tp, fp, fn.
      steps: what made masks of probabilities, in words; empty where that is not known.
    """

    name: str
    metrics: dict[str, Any]
    images: pd.DataFrame
    steps: str = ""

    @property
    def groups(self) -> np.ndarray:
        """Group of each image, str [images]."""
        return self.images["group"].to_numpy(str)

    @property
    def scores(self) -> list[str]:
        """Names of the columns that are scores of an image."""
        return [name for name in self.images if name != "group" and _base(name) not in _NO_SCORES]

    def values(self, score: str) -> np.ndarray:
        """Returns that score of each image, float64 [images]; NaN where it is not measured.

        Raises:
          ValueError: per_image.csv has no such score.
        """
        if score not in self.scores:
            raise ValueError(
                f"score: expected one that {self.name} has for each image ({', '.join(self.scores)}), found {score}; "
                "choose one of these"
            )
        return self.images[score].to_numpy(np.float64)

    def totals(self, score: str, measured: np.ndarray) -> dict[str, Ratio]:
        """Returns by name that score of all images: their mean and, where it has one, that of all pixels together.

        Args:
          score: a column of per_image.csv.
          measured: bool [images], those that count in the mean.
        """
        values = np.where(measured, self.values(score), 0.0)
        totals = {f"{score} per image": Ratio(values[:, None], measured[:, None].astype(float))}
        base, _, class_name = score.partition("/")
        if base in _POOLED:
            cells = [
                self.images[[name for name in self.images if _base(name) == cell and class_name in ("", _class(name))]]
                for cell in ("tp", "fp", "fn")
            ]
            ratio, label = _POOLED[base]
            totals[label.format(score)] = overlap_ratios(*(cell.to_numpy(np.float64) for cell in cells))[ratio]
        return totals


def default_score(run: Judged) -> str:
    """Returns the score by which runs of that kind are compared."""
    return ACCURACY if ACCURACY in run.images else "dice"


def lower_is_better(score: str) -> bool:
    """Returns whether a score is a distance."""
    return _base(score) in _LOWER_IS_BETTER


def read_judged(run: str, split: str) -> Judged:
    """Returns the evaluation of a run on a split.

    Args:
      run: RUN folder, or the folder of one evaluation, such as RUN/eval/test-gate.
      split: its name; without effect on the folder of one evaluation.

    Raises:
      ValueError: there is none, it is of unlabelled records, or damaged.
    """
    folder = Path(run) if (Path(run) / METRICS_FILE).is_file() else Path(run) / "eval" / split
    if not (folder / METRICS_FILE).is_file():
        others = sorted(path.parent.name for path in Path(run).glob(f"eval/*/{METRICS_FILE}"))
        raise ValueError(
            f"{run}: expected an evaluation of split {split}, found {', '.join(others) or 'none'}; "
            f"run `python test.py {run} RECORDS --split {split}` first, or choose another --split"
        )
    metrics = _read_json(folder / METRICS_FILE)
    if not (folder / PER_IMAGE_FILE).is_file():
        raise ValueError(f"{folder}: expected scores of each image, found no {PER_IMAGE_FILE}; judge labelled records")
    evaluated = _read_json(folder / EVALUATED_FILE) if (folder / EVALUATED_FILE).is_file() else {}
    steps = describe_classes(evaluated["postprocess"]) if evaluated.get("postprocess") else ""
    return Judged(run, metrics, _read_images(folder / PER_IMAGE_FILE, metrics), steps)


def check_same_images(first: Judged, other: Judged) -> Judged:
    """Returns the other evaluation, its images in the order of the first.

    Raises:
      ValueError: images, groups or truth are not the same: another split, or other records.
    """
    advice = "judge both on the same split of the same records"
    here, there = first.images, other.images
    for run, keys, others in ((other.name, here.index, there.index), (first.name, there.index, here.index)):
        missing = keys[~keys.isin(others)]
        if len(missing):
            more = f" nor {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(
                f"{run}: expected the {len(keys)} images of {other.name if run == first.name else first.name}, "
                f"did not find {missing[0]}{more}; {advice}"
            )
    there = there.loc[here.index]
    for what, left, right in (
        ("groups", first.groups, there["group"].to_numpy(str)),
        ("truth", *map(_truth, (here, there))),
    ):
        if left.shape != right.shape:
            raise ValueError(f"{other.name}: expected the classes of {first.name}, found others; {advice}")
        differ = (left != right).reshape(len(here), -1).any(1)
        if differ.any():
            index = int(np.argmax(differ))
            raise ValueError(
                f"{other.name}: expected the {what} of {first.name}, found {_words(right[index])} instead of "
                f"{_words(left[index])} for {here.index[index]}; {advice}"
            )
    return replace(other, images=there)


def short_names(runs: list[str]) -> list[str]:
    """Returns the names of runs without the folders that all have in common."""
    parts = [Path(run).parts for run in runs]
    shared = 0
    while len({part[: shared + 1] for part in parts}) == 1 and shared + 1 < min(map(len, parts)):
        shared += 1
    return [str(Path(*part[shared:])) for part in parts]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); run test.py again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected values by name, found {type(content).__name__}; run test.py again")
    return content


def _read_images(path: Path, metrics: dict[str, Any]) -> pd.DataFrame:
    try:
        # Keys may be "NA" or "007": they are text, whatever they look like.
        table = pd.read_csv(path, dtype={"source_id": str, "group": str}, keep_default_na=False, na_values=[""])
        keys = table["source_id"]
        if {"y", "x"} <= set(table):
            keys = keys + "@" + table["y"].astype(str) + "," + table["x"].astype(str)
        table = table.drop(columns="source_id").set_index(pd.Index(keys, name="image"))
        table["group"] = table["group"].astype(str)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); run test.py again") from error
    if table.empty or table.index.has_duplicates:
        found = f"{table.index[table.index.duplicated()][0]} twice" if len(table) else "none"
        raise ValueError(f"{path}: expected a row for each image, found {found}; run test.py again")
    return _mark_answers(table, path, metrics) if "probability" in table else table


def _mark_answers(table: pd.DataFrame, path: Path, metrics: dict[str, Any]) -> pd.DataFrame:
    """Returns a classifier's table with what its answers are worth; answers whose truth is not known are left out."""
    if "truth" not in table or table["truth"].isna().all():
        raise ValueError(f"{path}: expected answers with their truth, found unlabelled ones; judge labelled records")
    known = table[table["truth"].notna()]
    found, truth = known["probability"] >= metrics["threshold"], known["truth"].astype(bool)
    cells = {"tp": found & truth, "fp": found & ~truth, "fn": ~found & truth}
    return known.assign(
        accuracy=(found == truth).astype(float), **{name: cell.astype(int) for name, cell in cells.items()}
    )


def _truth(table: pd.DataFrame) -> np.ndarray:
    """Returns the size of the truth, of each class: int64 [images, classes]. Predictions do not change it."""
    names = [name for name in table if _base(name) == "tp"]
    return np.stack([table[name] + table["fn" + name.removeprefix("tp")] for name in names], 1)


def _words(value: np.ndarray) -> str:
    return " and ".join(f"{count} pixels" for count in value) if np.ndim(value) else str(value)


def _base(column: str) -> str:
    return column.partition("/")[0]


def _class(column: str) -> str:
    return column.partition("/")[2]
