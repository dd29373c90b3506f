"""The folder of an evaluation: what its files are called."""

import json
from pathlib import Path

METRICS_FILE, PER_IMAGE_FILE, PER_GROUP_FILE = "metrics.json", "per_image.csv", "per_group.csv"
SUBMISSION_FILE = "submission.csv"
PICTURES_FOLDER, PREDICTIONS_FOLDER = "result-image", "predictions"


def clear_folder(folder: Path) -> None:
    """Makes the folder, without what an earlier evaluation left: old and new files must not mix."""
    for name in (PICTURES_FOLDER, PREDICTIONS_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).glob("*.png"):
            old.unlink()
    (folder / PREDICTIONS_FOLDER).rmdir()
    for name in (METRICS_FILE, PER_IMAGE_FILE, PER_GROUP_FILE, SUBMISSION_FILE):
        (folder / name).unlink(missing_ok=True)


def write_metrics(folder: Path, metrics: dict) -> None:
    """Writes metrics.json."""
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n")
