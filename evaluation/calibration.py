"""Calibration: of the pixels that are given a probability, does that share belong to the class?

Expected calibration error (Naeini et al. 2015, AAAI; Guo et al. 2017, arxiv.org/abs/1706.04599): over bins of equal
width, the sum of (share of pixels in the bin) x |mean probability - share of pixels of the class|. Of each class by
itself, its pixels against all others; with several classes the score is their mean.
"""

import numpy as np
import pandas as pd

BINS = 10
"""Of equal width, from 0 to 1."""


def calibration_error(bins: np.ndarray) -> float | None:
    """Returns the expected calibration error of a class; None without pixels.

    Args:
      bins: float64 [bins, 3], of the known pixels in each bin of probability: their number, the sum of their
        probabilities, how many belong to the class.
    """
    pixels, probabilities, true = bins.T
    return float(np.abs(probabilities - true).sum() / pixels.sum()) if pixels.sum() else None


def summarize_calibration(counts: np.ndarray, class_names: list[str]) -> dict[str, float | None]:
    """Returns the scores by name, in the form of metrics.json.

    Args:
      counts: float64 [classes, bins, 3], see `calibration_error`.
      class_names: of the classes that are scored.
    """
    errors = [calibration_error(bins) for bins in counts]
    known = [error for error in errors if error is not None]
    scores = {"calibration_error": float(np.mean(known)) if known else None}
    if len(class_names) > 1:
        scores |= {f"calibration_error/{name}": error for name, error in zip(class_names, errors, strict=True)}
    return scores


def calibration_table(counts: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """Returns the reliability curves: a row for each class and bin, bins without pixels left out. Arguments: as above.

    Columns: class, low, high (of the bin), pixels, probability (their mean), true (share of them that belong to the
    class).
    """
    edges = np.arange(BINS + 1) / BINS
    rows = [
        (name, edges[index], edges[index + 1], int(pixels), probability / pixels, true / pixels)
        for name, bins in zip(class_names, counts, strict=True)
        for index, (pixels, probability, true) in enumerate(bins)
        if pixels
    ]
    return pd.DataFrame(rows, columns=["class", "low", "high", "pixels", "probability", "true"])
