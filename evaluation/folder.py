"""The folder of an evaluation: what its files are called."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.config import EvalConfig, ScoreConfig
from records.info import RecordsInfo

METRICS_FILE, PER_IMAGE_FILE, PER_GROUP_FILE = "metrics.json", "per_image.csv", "per_group.csv"
SUBMISSION_FILE = "submission.csv"
CONFUSION_FILE, CALIBRATION_FILE = "confusion.csv", "calibration.csv"
EVALUATED_FILE, REPORT_FILE = "evaluated.json", "report.html"
PICTURES_FOLDER, PREDICTIONS_FOLDER, EXAMPLES_FOLDER = "result-image", "predictions", "examples"
NO_CLASS = "none of them"
"""The last row and column of confusion.csv where classes overlap."""


def evaluation_name(config: EvalConfig, info: RecordsInfo, trained_on: str) -> str:
    """Returns the name of an evaluation's folder; of records other than those of the training it names them.

    Args:
      config: settings.
      info: of the records that are judged.
      trained_on: fingerprint of the records that the model was trained on.
    """
    return config.name if info.fingerprint == trained_on else f"{config.name}-of-{info.name}-{info.fingerprint[:8]}"


def clear_folder(folder: Path) -> None:
    """Makes the folder, without what an earlier evaluation left: old and new files must not mix."""
    for name in (PICTURES_FOLDER, PREDICTIONS_FOLDER, EXAMPLES_FOLDER):
        for old in (folder / name).glob("*.png"):
            old.unlink()
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            (folder / name).rmdir()
    (folder / PICTURES_FOLDER).mkdir(parents=True, exist_ok=True)
    tables = (METRICS_FILE, PER_IMAGE_FILE, PER_GROUP_FILE, CONFUSION_FILE, CALIBRATION_FILE)
    for name in (*tables, EVALUATED_FILE, REPORT_FILE, SUBMISSION_FILE):
        (folder / name).unlink(missing_ok=True)


def write_metrics(folder: Path, metrics: dict) -> None:
    """Writes metrics.json."""
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")


def write_confusion(folder: Path, pixels: np.ndarray, classes: list[str]) -> None:
    """Writes confusion.csv: pixels (int64) of all images, a row for each true class, see `Judged.confusion`."""
    names = [*classes, NO_CLASS][: len(pixels)]
    pd.DataFrame(pixels, pd.Index(names, name="true"), names).to_csv(folder / CONFUSION_FILE)


def write_evaluated(
    folder: Path,
    records: str,
    fingerprint: str,
    model: str,
    digest: str,
    config: EvalConfig,
    postprocess: dict[str, dict],
    seen_by: Sequence[str] = (),
) -> None:
    """Writes evaluated.json: what was evaluated, and how.

    Args:
      folder: of the evaluation.
      records, fingerprint: name of the records and what tells them from others.
      model, digest: name of the model's file and its SHA-256; of several models, one of theirs.
      config: settings.
      postprocess: steps that made the masks, by class, see `Predictor.describe`.
      seen_by: runs that were trained on these images.
    """
    content: dict[str, Any] = {
        "records": {"name": records, "fingerprint": fingerprint},
        "model": {"file": model, "sha256": digest},
        "settings": dataclasses.asdict(config),
        "postprocess": postprocess,
        "seen_by": list(seen_by),
    }
    (folder / EVALUATED_FILE).write_text(json.dumps(content, indent=2) + "\n")


def write_evaluated_predictions(folder: Path, info: RecordsInfo, name: str, digest: str, config: ScoreConfig) -> None:
    """Writes evaluated.json of predictions that another tool made.

    Args:
      folder: of the evaluation.
      info: of the records; classes are told too, as no RUN folder says them.
      name, digest: of the predictions' folder or file, and their SHA-256.
      config: settings.
    """
    records = {field: getattr(info, field) for field in ("name", "fingerprint", "classes", "overlapping")}
    content = {
        "records": records,
        "predictions": {"name": name, "sha256": digest},
        "settings": dataclasses.asdict(config),
    }
    (folder / EVALUATED_FILE).write_text(json.dumps(content, indent=2) + "\n")
