"""Do the splits look alike? Distances between their distributions, beside what chance alone gives."""

import numpy as np
import pandas as pd

MEASURES = {
    "objects": "objects per example",
    "areas": "connected areas per example",
    "foreground": "annotated share of the pixels",
    "brightness": "mean brightness",
    "contrast": "contrast",
}
"""Columns of `measures.example_facts` by which splits are compared, and what they mean."""

COUNTS = ("objects", "areas")
"""Those that are counts, not continuous."""

_RESAMPLES = 500
_QUANTILES = 10
_MOST_EXAMPLES = 20_000
_FEWEST_CLUSTERS = 5
_TELLING = 0.5
_LARGE = 0.2

_ANOTHER_SEED = "a few groups may dominate it: see the groups below, try another --seed"
_ADVICE = {
    "objects": "--splits.stratify gives every split the same mix of object counts",
    "areas": _ANOTHER_SEED,
    "foreground": _ANOTHER_SEED + ", or --splits.stratify where objects are counted",
    "brightness": _ANOTHER_SEED,
    "contrast": _ANOTHER_SEED,
}


def known_measures(facts: pd.DataFrame) -> list[str]:
    """Returns the measures that are known and not all equal; connected areas only where objects are not counted."""
    names = [name for name in MEASURES if facts[name].nunique() > 1]
    return [name for name in names if name != "areas" or "objects" not in names]


def count_bin(objects: np.ndarray) -> np.ndarray:
    """Returns the number of bits of each count, int64: 0, 1, 2-3, 4-7, ... objects are bins 0, 1, 2, 3, ..."""
    return np.frexp(np.asarray(objects, np.float64))[1].astype(np.int64)


def bin_label(number: int) -> str:
    """Returns the counts that a bin of `count_bin` holds, such as 4–7."""
    low, high = (1 << number) >> 1, (1 << number) - 1
    return str(low) if low >= high else f"{low}–{high}"


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns half the sum of differences between two histograms' shares: 0 = the same, 1 = nothing in common."""
    return float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)


def compare_splits(facts: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Returns how far the distribution of each measure in a split is from that in all other examples.

    Counts are compared in the bins of `count_bin`, all else in tenths of the examples. Whole clusters of examples are
    divided at random many times, to see how far apart equally large parts are by chance. Of more than 20,000 examples a
    random sample is compared.

    Args:
      facts: as `measures.example_facts` returns it.
      seed: of the random divisions, and of the sample.

    Returns:
      measure, split, examples (those where the measure is known), clusters, distance (total variation), chance (99 % of
      random divisions stay below), verdict ("alike", "slightly different", "different", "cannot tell": a side has fewer
      than 5 clusters, or chance alone gives more than half of the largest distance there is).
    """
    rows = []
    for measure in known_measures(facts):
        known = _sample(facts[facts[measure].notna()], seed)
        bins = _bins(known[measure].to_numpy(), measure)
        for split in [name for name in known["split"].unique() if name != "train"]:
            inside = (known["split"] == split).to_numpy()
            if inside.all():
                continue
            parts = [np.bincount(bins[part], minlength=bins.max() + 1) for part in (inside, ~inside)]
            distance = total_variation(*parts)
            chance = _chance(bins, known["cluster"], int(inside.sum()), seed)
            clusters = [known.loc[part, "cluster"].nunique() for part in (inside, ~inside)]
            verdict = _verdict(distance, chance) if min(clusters) >= _FEWEST_CLUSTERS else "cannot tell"
            rows.append((measure, split, inside.sum(), clusters[0], round(distance, 3), round(chance, 3), verdict))
    columns = ["measure", "split", "examples", "clusters", "distance", "chance", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def describe_comparison(comparison: pd.DataFrame) -> str:
    """Returns in plain words what `compare_splits` found, and what to do about it."""
    if comparison.empty:
        return "There is nothing to compare: one split alone, or nothing known of its examples."
    lines = []
    for measure, rows in comparison.groupby("measure", sort=False):
        found = "; ".join(
            f"{verdict} ({', '.join(part['split'])})" for verdict, part in rows.groupby("verdict", sort=False)
        )
        differs = rows["verdict"].isin(["different", "slightly different"]).any()
        lines.append(f"- {MEASURES[measure]}: {found}" + (f"; {_ADVICE[measure]}" if differs else ""))
    if (comparison["verdict"] == "cannot tell").any():
        lines.append("Cannot tell: so few clusters that chance alone can make parts differ as much.")
    if (comparison["verdict"] == "alike").all():
        lines.append("The splits look alike: scores on one speak for the others.")
    return "\n".join(lines)


def _sample(facts: pd.DataFrame, seed: int) -> pd.DataFrame:
    count = min(_MOST_EXAMPLES, len(facts))
    return facts.iloc[np.sort(np.random.default_rng(seed).choice(len(facts), count, replace=False))]


def _bins(values: np.ndarray, measure: str) -> np.ndarray:
    if measure in COUNTS:
        return count_bin(values)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _QUANTILES + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _chance(bins: np.ndarray, clusters: pd.Series, examples: int, seed: int) -> float:
    """Returns the 99th percentile of the distance between a random part of about so many examples and the rest."""
    codes, names = pd.factorize(clusters)
    if len(names) < 2:
        return 1.0
    histograms = np.zeros((len(names), bins.max() + 1))
    np.add.at(histograms, (codes, bins), 1)
    sizes, total = histograms.sum(1), histograms.sum(0)
    generator = np.random.default_rng(seed)
    distances = []
    for _ in range(_RESAMPLES):
        order = generator.permutation(len(names))
        # At least one cluster on either side, however large the first is.
        taken = np.clip(np.searchsorted(sizes[order].cumsum(), examples, side="right"), 1, len(names) - 1)
        part = histograms[order[:taken]].sum(0)
        distances.append(total_variation(part, total - part))
    return float(np.quantile(distances, 0.99))


def _verdict(distance: float, chance: float) -> str:
    if chance > _TELLING:
        return "cannot tell"
    if distance <= chance:
        return "alike"
    return "different" if distance > _LARGE else "slightly different"
