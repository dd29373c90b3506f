"""RUN folders with evaluations that no model has made, and what their pages hold."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from evaluation.calibration import BINS, calibration_table
from evaluation.config import EvalConfig
from evaluation.folder import write_evaluated, write_metrics
from evaluation.pictures import file_name
from inference.postprocess import Steps, write_postprocess

WEIGHTS = "d" * 64


class Page(HTMLParser):
    """Every tag with its attributes, ids of the sections, and cells (text, data-value) by the table's id."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.cells: dict[str, list[list[tuple[str, str]]]] = {}
        self._table, self._value = "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table":
            self._table = attributes.get("id", "")
        elif tag == "tr":
            self.cells.setdefault(self._table, []).append([])
        self._value = attributes.get("data-value") if tag in ("td", "th") else None

    def handle_data(self, data):
        if self._value is not None:
            self.cells[self._table][-1].append((data, self._value))
            self._value = None

    @property
    def ids(self) -> set[str]:
        return {
            attributes["id"] for tag, attributes in self.tags if tag in ("section", "figure") and "id" in attributes
        }


def write_run(folder: Path, images: pd.DataFrame, metrics: dict, classes=("background", "cell"), **files) -> Path:
    """Writes a RUN folder with the evaluation of its test split; returns the evaluation's folder."""
    judged = folder / "eval" / "test"
    (judged / "result-image").mkdir(parents=True)
    images.to_csv(judged / "per_image.csv", index=False)
    write_metrics(judged, {"num_examples": len(images), "threshold": 0.5, **metrics})
    records = {
        "name": "cells",
        "classes": [*classes],
        "overlapping": files.get("overlapping", False),
        "fingerprint": "f" * 64,
    }
    (folder / "config.json").write_text(json.dumps({"train": {"epochs": 3}, "records": records}))
    for key in files.get("pictures", ()):
        pixels = np.random.default_rng(0).integers(0, 255, [60, 240, 3]).astype(np.uint8)
        Image.fromarray(pixels).save(judged / "result-image" / f"worst-01-{file_name(key)}.png")
    if "history" in files:
        files["history"].to_csv(folder / "history.csv", index=False)
    return judged


def make_images(keys: list[str]) -> pd.DataFrame:
    """Returns a row for each key; image n of N has 10 (n + 1) true pixels, of which n + 1 are missed."""
    number = np.arange(1, len(keys) + 1)
    tp, fp, fn = 9 * number, 2 * number[::-1], number
    dice, iou = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)
    table = {"source_id": keys, "group": keys, "dice": dice, "iou": iou, "tp": tp, "fp": fp, "fn": fn}
    return pd.DataFrame(table)


METRICS = {
    "dice_per_image": 0.8125,
    "dice_per_image_ci95": [0.7, 0.9],
    "recall": 0.9,
    "baseline_nothing/dice_per_image": 0.25,
    "baseline_everything/dice_per_image": 0.125,
}
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [1.0, 0.5, 0.4],
        "val_loss": [1.1, 0.6, 0.7],
        "dice_per_image": [0.2, 0.7, 0.9],
        "val_dice_per_image": [0.1, 0.8, 0.75],
    }
)


def write_calibration(folder: Path, classes: dict[str, list[tuple[float, int, int]]]) -> np.ndarray:
    """Writes calibration.csv of pixels by class: (their probability, how many there are, how many are of the class).

    Returns the counts that it was made of.
    """
    counts = np.zeros([len(classes), BINS, 3])
    for number, rows in enumerate(classes.values()):
        for probability, pixels, true in rows:
            counts[number, int(probability * BINS)] += pixels, probability * pixels, true
    calibration_table(counts, list(classes)).to_csv(folder / "calibration.csv", index=False)
    return counts


def _all_steps(classes: dict[str, dict]) -> dict[str, dict]:
    return {name: dataclasses.asdict(Steps(**steps)) for name, steps in classes.items()}


def write_how(folder: Path, classes: dict[str, dict], **settings) -> None:
    """Writes evaluated.json: steps of the classes that are not the plain ones, settings of the evaluation."""
    config = EvalConfig(**settings)
    write_evaluated(folder, "cells", "f" * 64, "model.keras", WEIGHTS, config, _all_steps(classes))


def write_choice(folder: Path, classes: dict[str, dict], sweeps: dict[str, list], way: str = "", **changed) -> None:
    """Writes RUN/postprocess.json, from 0.5 to 0.75 Dice per image on 12 images of val unless `changed`."""
    scores = {"split": "val", "num_examples": 12, "metric": "dice_per_image", "plain": 0.5, "chosen": 0.75}
    what = {"model_sha256": WEIGHTS, "fingerprint": "f" * 64, "classes": _all_steps(classes), "sweeps": sweeps}
    write_postprocess(folder.parents[1] / "postprocess.json", way, {**scores, **what, **changed})
