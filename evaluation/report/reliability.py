"""Whether probabilities can be believed: reliability curves, and what they say in words."""

import numpy as np
import pandas as pd

from evaluation.report.charts import ReliabilityBin, reliability
from evaluation.report.figures import Figure
from evaluation.report.files import Evaluation

_ROUNDS_TO_NOTHING = 0.0005


def reliability_figures(evaluation: Evaluation) -> list[Figure]:
    """Returns the reliability curve of each class; none where probabilities were not counted."""
    if evaluation.calibration is None:
        return []
    classes = evaluation.calibration.groupby("class", sort=False)
    return [
        Figure(f"reliability-{number + 1}", describe_reliability(name, bins), _draw(name, bins))
        for number, (name, bins) in enumerate(classes)
    ]


def describe_reliability(name: str, bins: pd.DataFrame) -> str:
    """Returns in words how far the probabilities of a class can be believed.

    How sure an answer is (of "no" the probability of its absence) is held against how often it is right: Guo et al.
    2017, arxiv.org/abs/1706.04599. Yes and no apart, because of a rare class nearly all answers are no.

    Args:
      name: of the class.
      bins: its rows of calibration.csv.
    """
    pixels, probability, true = (bins[column].to_numpy(float) for column in ("pixels", "probability", "true"))
    # A bin's answer is one and the same: none reaches from below 0.5 to above.
    yes = (bins["low"] + bins["high"]).to_numpy() > 1
    answers = []
    for answer, chosen, sure, right in (("yes", yes, probability, true), ("no", ~yes, 1 - probability, 1 - true)):
        if chosen.any():
            means = (float(np.average(values[chosen], weights=pixels[chosen])) for values in (sure, right))
            answers.append(f"where it says {answer} it is {_verdict(*means)}")
        else:
            answers.append(f"it never says {answer}")
    error = np.average(abs(probability - true), weights=pixels)
    return f"{name}: {'; '.join(answers)}. Expected calibration error {error:.4f}."


def _verdict(sure: float, right: float) -> str:
    gap = sure - right
    if abs(gap) < _ROUNDS_TO_NOTHING:
        return f"as sure as it is right, {_percent(right)}"
    kind = "overconfident" if gap > 0 else "underconfident"
    return f"{kind} by {abs(100 * gap):.1f} percentage points, sure to {_percent(sure)} and right in {_percent(right)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _draw(name: str, bins: pd.DataFrame):
    total = bins["pixels"].sum()
    rows = [
        ReliabilityBin(low, high, pixels / total, probability, true)
        for low, high, pixels, probability, true in bins[["low", "high", "pixels", "probability", "true"]].to_numpy()
    ]
    return reliability(rows, name)
