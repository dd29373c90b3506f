"""Scores of metrics.json as rows and as words."""

from typing import Any, NamedTuple

import pandas as pd

from evaluation.report.files import Evaluation
from evaluation.score_names import SCORES, Score
from evaluation.terminal import SEEN

_CONSTANTS = {"nothing": "nothing at all", "everything": "every pixel"}


class ScoreRow(NamedTuple):
    """A score of the summary; `baselines` are those of predicting nothing and everything, None where not measured."""

    name: str
    score: Score
    value: float
    interval: list[float] | None
    baselines: list[float | None]
    unit: str


def score_rows(metrics: dict[str, Any]) -> list[ScoreRow]:
    """Returns the scores that an evaluation has, those that matter most first."""
    rows = []
    for name, score in SCORES.items():
        if metrics.get(name) is None:
            continue
        baselines = [metrics.get(f"baseline_{constant}/{name}") for constant in _CONSTANTS]
        unit = metrics.get("distance_unit", "px") if score.is_distance else ""
        rows.append(ScoreRow(name, score, metrics[name], metrics.get(f"{name}_ci95"), baselines, unit))
    return rows


def describe(evaluation: Evaluation) -> list[str]:
    """Returns in plain sentences how good the predictions are, how sure that is, and what it is worth."""
    rows = score_rows(evaluation.metrics)
    if not rows:
        return ["There are no scores: of these images no pixel's class is known."]
    row = rows[0]
    groups = evaluation.images["group"].nunique() if "group" in evaluation.images else len(evaluation.images)
    many = "groups" if evaluation.grouped else "images"
    sentences = [f"{row.score.label} is {row.value:.3f}, where 1 is perfect"]
    if row.interval:
        low, high = row.interval
        sentences[0] += f"; with 95 % confidence, on more such {many} it is between {low:.3f} and {high:.3f}."
        if groups < 10:
            sentences.append(f"This rests on only {groups} {many}: the true range is wider than the interval says.")
    else:
        sentences[0] += "; how sure that is, a single group cannot tell."
    constants = [
        (value, words) for value, words in zip(row.baselines, _CONSTANTS.values(), strict=True) if value is not None
    ]
    if constants:
        value, words = max(constants)
        low = row.interval[0] if row.interval else row.value
        if low > value:
            worth = "the model is better than that"
        elif row.interval and row.interval[1] > value:
            worth = "that lies within the interval, so these images do not show that the model is better"
        else:
            worth = "the model is no better than that"
        sentences.append(f"Predicting {words} would score {value:.3f}: {worth}.")
    if seen_by := evaluation.evaluated.get("seen_by"):
        sentences.append(f"{SEEN.format(', '.join(seen_by))}.")
    return sentences


def class_table(evaluation: Evaluation) -> pd.DataFrame | None:
    """Returns the scores of each class, by class name; None where there are not several."""
    metrics, classes = evaluation.metrics, evaluation.class_names
    names = [name for name in SCORES if any(f"{name}/{class_name}" in metrics for class_name in classes)]
    if len(classes) < 2 or not names:
        return None
    rows = [[metrics.get(f"{name}/{class_name}") for name in names] for class_name in classes]
    return pd.DataFrame(rows, classes, names, dtype=float)


class Pixels(NamedTuple):
    """How many pixels prediction and truth agree on, how many were missed, how many invented."""

    agreed: int
    missed: int
    invented: int

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Name and percentage of each kind; of nothing, nothing."""
        total = sum(self)
        return [(kind, 100 * count / total) for kind, count in zip(self._fields, self, strict=True)] if total else []


def class_pixels(evaluation: Evaluation) -> dict[str, Pixels]:
    """Returns the pixels of each class by name; nothing where per_image.csv does not count them."""
    images, found = evaluation.images, {}
    for name in evaluation.class_names:
        suffix = f"/{name}" if f"tp/{name}" in images else ""
        if f"tp{suffix}" in images:
            found[name] = Pixels(*(int(images[f"{kind}{suffix}"].sum()) for kind in ("tp", "fn", "fp")))
    return found
