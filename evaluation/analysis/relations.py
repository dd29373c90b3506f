"""Does a score go with a measure of the images? Rank correlations, with intervals over groups.

Spearman's: the correlation of ranks, 1 = one rises wherever the other does, -1 = it falls, 0 = neither. It asks for no
straight line. The intervals are bootstrap intervals over whole groups, as those of scores are.
"""

import numpy as np
import pandas as pd

from evaluation.analysis.facts import MEASURES, known_measures
from evaluation.comparison.judged import lower_is_better
from evaluation.comparison.pairs import FEWEST_GROUPS

_RESAMPLES = 1000


def rank_correlation(first: np.ndarray, second: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns Spearman's correlation, float64 [draws]; NaN where all values of one are equal.

    Args:
      first, second: float [images].
      weights: [draws, images], how often each image counts; None: one draw in which each counts once.
    """
    weights = np.ones((1, len(first))) if weights is None else weights
    ranks = [_ranks(values, weights) for values in (first, second)]
    one, other = (rank - (weights * rank).sum(1, keepdims=True) / weights.sum(1, keepdims=True) for rank in ranks)
    scale = np.sqrt((weights * one**2).sum(1) * (weights * other**2).sum(1))
    known = scale > 0
    return np.where(known, (weights * one * other).sum(1) / np.where(known, scale, 1), np.nan)


def relate(facts: pd.DataFrame, score: str, seed: int = 0) -> pd.DataFrame:
    """Returns how a score goes with each measure, the strongest first.

    Args:
      facts: as `facts.read_facts` returns it.
      score: a column of per_image.csv; images where it is not measured count nowhere.
      seed: of the bootstrap.

    Returns:
      By measure: images, correlation, low and high (of the 95 % interval), verdict ("better where higher", "worse where
      higher", "can't tell": the interval holds 0, or there are fewer than 6 groups).
    """
    rows = {}
    for measure in known_measures(facts):
        known = facts[["group", measure, score]].dropna()
        values, scores = known[measure].to_numpy(float), known[score].to_numpy(float)
        if len(known) < 3 or np.ptp(scores) == 0 or np.ptp(values) == 0:
            continue
        low, high = _interval(values, scores, known["group"].to_numpy(str), seed)
        correlation = float(rank_correlation(values, scores)[0])
        verdict = _judge(low, high, known["group"].nunique(), lower_is_better(score))
        rows[measure] = (len(known), correlation, low, high, verdict)
    columns = ["images", "correlation", "low", "high", "verdict"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("measure")
    return table.sort_values("correlation", key=abs, ascending=False, kind="stable")


def describe_relations(relations: pd.DataFrame, score: str) -> str:
    """Returns in plain words what `relate` found."""
    if relations.empty:
        return f"Nothing is known of the images, or {score} is the same for all: there is nothing to relate."
    lines = []
    for verdict, rows in relations.groupby("verdict", sort=False):
        found = ", ".join(f"{MEASURES[row.Index].label} ({row.correlation:+.2f})" for row in rows.itertuples())
        lines.append(f"- {score} {verdict}: {found}")
    lines.append(
        f"Of {len(relations)} measures, one in twenty has an interval without 0 by chance; and what goes together need "
        "not be the cause."
    )
    return "\n".join(lines)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the mean rank of each value, float64 [draws, images], where images count `weights` times."""
    _, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)
    return (counts.cumsum(1) - counts / 2)[:, places]


def _interval(values: np.ndarray, scores: np.ndarray, groups: np.ndarray, seed: int) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the correlation over resampled groups; NaN of one group alone."""
    generator = np.random.default_rng(seed)
    _, membership = np.unique(groups, return_inverse=True)
    count = membership.max() + 1
    if count < 2:
        return float("nan"), float("nan")
    drawn = np.stack([np.bincount(generator.integers(count, size=count), minlength=count) for _ in range(_RESAMPLES)])
    found = rank_correlation(values, scores, drawn[:, membership].astype(float))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def _judge(low: float, high: float, groups: int, lower: bool) -> str:
    if np.isnan(low) or groups < FEWEST_GROUPS or low <= 0 <= high:
        return "can't tell"
    return "better where higher" if (low > 0) != lower else "worse where higher"
