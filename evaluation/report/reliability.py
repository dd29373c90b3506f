"""Whether probabilities can be believed: reliability curves, and what they say in words."""

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

    How sure an answer is (class or not, by the larger probability) is held against how often it is right: Guo et al.
    2017, arxiv.org/abs/1706.04599. Where a class is rare its absence decides that; so its presence is told apart.

    Args:
      name: of the class.
      bins: its rows of calibration.csv.
    """
    pixels, probability, true = (bins[column].to_numpy(float) for column in ("pixels", "probability", "true"))
    share = pixels / pixels.sum()
    yes = (bins["low"] + bins["high"]).to_numpy() > 1
    # A bin's answer is one and the same: none reaches from below 0.5 to above.
    sure, right = (float((share * _of_answer(values, yes)).sum()) for values in (probability, true))
    gap, error = sure - right, float((share * abs(probability - true)).sum())
    verdict = "neither over- nor underconfident"
    if abs(gap) >= _ROUNDS_TO_NOTHING:
        verdict = f"{'overconfident' if gap > 0 else 'underconfident'} by {abs(100 * gap):.1f} percentage points"
    words = f"{name}: {verdict}. Its answers are sure to {_percent(sure)}, and {_percent(right)} of them are right."
    if yes.any():
        said, found = (float((share * values)[yes].sum() / share[yes].sum()) for values in (probability, true))
        words += f" Where it says yes, it is sure to {_percent(said)}, and {_percent(found)} are."
    else:
        words += " It never says yes."
    return f"{words} Expected calibration error {error:.4f}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _of_answer(values, yes):
    """Returns shares of the class as shares of what is answered."""
    return values * yes + (1 - values) * ~yes


def _draw(name: str, bins: pd.DataFrame):
    total = bins["pixels"].sum()
    rows = [
        ReliabilityBin(low, high, pixels / total, probability, true)
        for low, high, pixels, probability, true in bins[["low", "high", "pixels", "probability", "true"]].to_numpy()
    ]
    return reliability(rows, name)
