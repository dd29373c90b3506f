"""What the files of an evaluation hold; a file that is not there was not measured."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.folder import (
    CALIBRATION_FILE,
    CONFUSION_FILE,
    EVALUATED_FILE,
    METRICS_FILE,
    PER_GROUP_FILE,
    PER_IMAGE_FILE,
    PICTURES_FOLDER,
)
from records.info import scored_classes


@dataclass(frozen=True)
class Evaluation:
    """The files of RUN/eval/<split>/, and of the RUN folder what belongs to them.

    Attributes:
      run: name of the RUN folder, or of another tool's predictions.
      split: name of the evaluation's folder.
      metrics: of metrics.json.
      images: a row for each image, or for each answer of a classifier.
      groups: per_group.csv; None: not there.
      confusion: pixels of all images, [true class, predicted class]; None: not there.
      calibration: calibration.csv; None: not there.
      evaluated: of evaluated.json; empty: not there.
      postprocess: of the run's postprocess.json, what was chosen on validation; empty: not there.
      config: of the run's config.json, of other predictions their records alone; empty: not there.
      history: a row for each epoch; None: not there.
      pictures: of result-image/, in order of their names.
    """

    run: str
    split: str
    metrics: dict[str, Any]
    images: pd.DataFrame
    groups: pd.DataFrame | None
    confusion: pd.DataFrame | None
    calibration: pd.DataFrame | None
    evaluated: dict[str, Any]
    postprocess: dict[str, Any]
    config: dict[str, Any]
    history: pd.DataFrame | None
    pictures: list[Path]

    @property
    def class_names(self) -> list[str]:
        """Of the classes that are scored, in the order of their colours in the pictures."""
        several = [name.removeprefix("tp/") for name in self.images.columns if name.startswith("tp/")]
        if several or "records" not in self.config:
            return several
        known = self.config["records"]
        return [known["classes"][index] for index in scored_classes(known["classes"], known["overlapping"])]

    @property
    def grouped(self) -> bool:
        """Whether any group holds several images."""
        return "group" in self.images and bool(self.images["group"].duplicated().any())

    def pixels(self, kind: str) -> pd.Series:
        """Returns the pixels of each image that are tp, fp or fn, of all classes together."""
        return self.images[[name for name in self.images.columns if re.fullmatch(rf"{kind}(/.+)?", name)]].sum(axis=1)


def read_evaluation(folder: Path) -> Evaluation:
    """Returns what the files of RUN/eval/<split>/ hold.

    Raises:
      ValueError: there are no scores in the folder, or a file is damaged.
    """
    for name in (METRICS_FILE, PER_IMAGE_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: expected an evaluation of labelled records, found no {name}; run test.py first"
            )
    evaluated = _read_json(folder / EVALUATED_FILE)
    run, foreign = folder.resolve().parents[1], evaluated.get("predictions")
    if foreign:
        run = folder  # there is no RUN folder: what lies two folders up is not theirs
    return Evaluation(
        run=foreign["name"] if foreign else run.name,
        split=evaluated["settings"]["split"] if foreign else folder.name,
        metrics=_read_json(folder / METRICS_FILE),
        images=_read_table(folder / PER_IMAGE_FILE),
        groups=_read_optional(folder / PER_GROUP_FILE),
        confusion=_read_confusion(folder / CONFUSION_FILE),
        calibration=_read_optional(folder / CALIBRATION_FILE),
        evaluated=evaluated,
        postprocess=_read_json(run / "postprocess.json", "evaluation.tune"),
        config={"records": evaluated["records"]} if foreign else _read_json(run / "config.json"),
        history=_read_optional(run / "history.csv"),
        pictures=sorted((folder / PICTURES_FOLDER).glob("*.png")),
    )


def _read_json(path: Path, maker: str = "test.py") -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON, found damage ({error}); run {maker} anew") from error


def _read_table(path: Path) -> pd.DataFrame:
    """Returns a CSV file; keys and groups are text, even 007 and NA."""
    try:
        names = pd.read_csv(path, nrows=0).columns
        words = {name: str for name in ("source_id", "group", "class") if name in names}
        missing = {name: [""] for name in names if name not in words}
        return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=missing)
    except ValueError as error:
        raise ValueError(f"{path}: expected a table, found damage ({error}); run test.py anew") from error


def _read_optional(path: Path) -> pd.DataFrame | None:
    return _read_table(path) if path.is_file() else None


def _read_confusion(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    return pd.read_csv(path, dtype={"true": str}, keep_default_na=False).set_index("true")
