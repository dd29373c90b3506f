"""Made-up evaluations."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.comparison.judged import Judged


def table_of(cells: list[tuple[int, int, int]], groups: list[str] | None = None) -> pd.DataFrame:
    """Returns per_image.csv of images a, b, ... with these (tp, fp, fn)."""
    keys = [chr(ord("a") + index) for index in range(len(cells))]
    table = pd.DataFrame({"source_id": keys, "group": groups or keys})
    table["dice"] = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0 for tp, fp, fn in cells]
    table[["tp", "fp", "fn"]] = cells
    return table


def write(folder: Path, table: pd.DataFrame, split: str = "test", fold: int | None = None, **metrics) -> str:
    """Makes a RUN folder with an evaluation; returns its path."""
    evaluation = folder / "eval" / split
    evaluation.mkdir(parents=True)
    table.to_csv(evaluation / "per_image.csv", index=False)
    (evaluation / "metrics.json").write_text(json.dumps({"num_examples": len(table), "threshold": 0.5, **metrics}))
    (folder / "config.json").write_text(json.dumps({"train": {"input": {"fold": fold}}, "records": {}}))
    return str(folder)


def judged(name: str, values: np.ndarray, groups: np.ndarray | None = None, score: str = "object_f2") -> Judged:
    """Returns an evaluation of images 0, 1, ... that have one score."""
    keys = [str(index) for index in range(len(values))]
    images = pd.DataFrame({"group": keys if groups is None else groups, score: values}, index=keys)
    return Judged(name, {}, images)
