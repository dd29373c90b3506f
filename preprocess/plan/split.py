"""Split: what must stay together becomes a cluster, and every cluster goes into one split or fold.

A side is where the user put something: the number of a split in `split_names`, -1 for nowhere. Raw directories and
lists of splits give sides; what they leave open, hashes decide.
"""

import itertools

import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig
from preprocess.plan.balance import check_objects, drop
from preprocess.plan.duplicates import connect, first_rows
from preprocess.plan.hashes import salted_hashes

SPLITS = ("train", "val", "test")

_MOST_SIDES = 128


def split_names(config: PreprocessConfig) -> tuple[str, ...]:
    """Returns the names of the splits: train, val, test, or fold0, fold1, … and test."""
    if config.splits.folds is None:
        return SPLITS
    return (*(f"fold{number}" for number in range(config.splits.folds)), "test")


def find_sides(plan: pd.DataFrame, config: PreprocessConfig) -> np.ndarray:
    """Returns the side of each row, int64. Where folds replace train and val, both directories are side 0."""
    number = {name: number for number, name in enumerate(split_names(config))}
    sides = plan["split"].map({"train": 0, "val": 0} | number)
    return sides.where(plan["status"] == "in").fillna(-1).to_numpy(np.int64)


def check_groups(plan: pd.DataFrame, sides: np.ndarray) -> None:
    """Raises ValueError where raw directories divide a group."""
    divided = _divided(first_rows(plan["group"]), sides)
    if len(divided):
        raise ValueError(
            f"the raw directories divide the group {plan['group'].iloc[divided[0]]!r} between splits: "
            f"{_where(plan, divided)}; move its images into one, or change --group_by"
        )


def check_list(plan: pd.DataFrame, sides: np.ndarray) -> None:
    """Raises ValueError where a list of splits divides a group or puts equal files into two splits."""
    divided = _divided(first_rows(plan["group"]), sides)
    if len(divided):
        raise ValueError(
            f"splits.keys: expected one split for the group {plan['group'].iloc[divided[0]]!r}, found "
            f"{_where(plan, divided)}; list it in one, or change --group_by"
        )
    divided = _divided(first_rows(plan["sha256"]), sides)
    if len(divided):
        raise ValueError(
            f"splits.keys: expected equal files in one split, found {_where(plan, divided)}; list them in one"
        )


def drop_leaks(plan: pd.DataFrame, sides: np.ndarray) -> np.ndarray:
    """Drops what the raw directories, file for file, also put into a split that is held out more (test, then val).

    Returns the sides without theirs.
    """
    contents = first_rows(plan["sha256"])
    most = _highest(contents, sides)
    kept = np.flatnonzero((sides >= 0) & (sides == most[contents]))
    leaks = np.flatnonzero((sides >= 0) & (sides < most[contents]))
    twin = np.empty(len(plan), np.int64)
    twin[contents[kept][::-1]] = kept[::-1]  # the first of several
    twins = plan[["split", "image"]].iloc[twin[contents[leaks]]].set_index(plan.index[leaks])
    reasons = "same file in split " + twins["split"] + ": " + twins["image"]
    is_leak = np.zeros(len(plan), bool)
    is_leak[leaks] = True
    drop(plan, is_leak, reasons.reindex(plan.index))
    return np.where(is_leak, -1, sides)


def tie_clusters(plan: pd.DataFrame, duplicates: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each row the first row of its cluster, and the cluster's side; what is not in is alone.

    Groups and equal files make a cluster. Near-duplicates do too, but the user's sides come first: they are not moved,
    and what has no side joins the one that is held out most.

    Args:
      plan: in the order of its keys.
      duplicates: as `find_duplicates` returns it.
      sides: of the rows.

    Raises:
      ValueError: groups and equal files tie two sides together.
    """
    rows = np.arange(len(plan))
    is_in = (plan["status"] == "in").to_numpy()
    tied = connect(first_rows(plan["group"].where(is_in)), rows, first_rows(plan["sha256"].where(is_in)))
    divided = _divided(tied, sides)
    if len(divided):
        key = plan["key"].iloc[tied[divided[0]]]
        raise ValueError(
            f"the raw directories divide what groups and equal files tie to {key!r} between splits; "
            "move it into one, or change --group_by"
        )
    clusters = connect(tied, rows, first_rows(pd.Series(np.where(is_in, duplicates, -1 - rows))))
    own = _highest(tied, sides)[tied]
    sides = np.where(own >= 0, own, _highest(clusters, sides)[clusters])
    return first_rows(pd.Series(clusters * _MOST_SIDES + sides + 1)), sides


def find_strata(plan: pd.DataFrame) -> np.ndarray:
    """Returns the number of bits of each row's number of objects (0, 1, 2-3, 4-7, …: 0, 1, 2, 3, …), int64.

    Raises:
      ValueError: the number of objects is unknown.
    """
    check_objects(plan, "splits.stratify")
    return np.frexp(plan["objects"].to_numpy(np.float64, na_value=0))[1].astype(np.int64)


def assign_splits(
    plan: pd.DataFrame, keys: pd.Series, sides: np.ndarray, config: PreprocessConfig, listed: bool
) -> np.ndarray:
    """Returns the number of the split of each row, int64, -1 where it is not in.

    Args:
      plan: columns status, cluster (number of its first row) and, to stratify, stratum.
      keys: the keys that the numbers of clusters mean.
      sides: of the rows.
      config: shares, folds, seed.
      listed: whether the sides are those of a list, which leaves nothing open.

    Raises:
      ValueError: a fold would be empty.
    """
    if config.unlabeled:
        return np.where(plan["status"] == "in", SPLITS.index("test"), -1)
    rows = np.flatnonzero(plan["status"] == "in")
    shares, free = _shares(set(sides[rows].tolist()), config)
    chosen = sides.copy() if listed else np.where(np.isin(sides, free), -1, sides)
    loose = rows[chosen[rows] < 0]
    clusters = plan["cluster"].to_numpy()
    sizes = np.bincount(clusters[loose], minlength=len(keys))
    numbers = np.flatnonzero(sizes)
    numbers = numbers[np.argsort(salted_hashes(keys.iloc[numbers], f"{config.seed}:split"), kind="stable")]
    strata = np.zeros(len(keys), np.int64)
    if config.splits.stratify:
        np.maximum.at(strata, clusters[loose], plan["stratum"].to_numpy()[loose])
    split = np.full(len(keys), -1)
    split[numbers] = divide(sizes[numbers], strata[numbers], shares)
    chosen[loose] = split[clusters[loose]]
    chosen[(plan["status"] != "in").to_numpy()] = -1
    _check_folds(chosen, config)
    return chosen


def divide(sizes: np.ndarray, strata: np.ndarray, shares: list[float]) -> np.ndarray:
    """Returns the split of each cluster, int64: by shares within every stratum.

    The clusters of a stratum are laid end to end and belong where their middle falls. What rounding gave a split too
    much or too little, the next stratum makes up for, so that the totals are as near to the shares as without strata.
    Of few clusters (patients, say) no split that has a share gets none, as long as there are enough.
    """
    bounds = np.cumsum(shares)
    bounds = bounds / bounds[-1]
    behind = np.zeros(len(bounds))
    split = np.empty(len(sizes), np.int64)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        total = sizes[rows].sum()
        middle = (sizes[rows].cumsum() - sizes[rows] / 2) / total
        borders = np.maximum.accumulate(bounds + behind / total)
        split[rows] = np.searchsorted(borders, middle, side="right").clip(max=len(shares) - 1)
        behind += bounds * total - np.bincount(split[rows], sizes[rows], len(shares)).cumsum()
    wanted = np.flatnonzero(np.array(shares) > 0)
    if len(sizes) >= len(wanted):
        for earlier, number in reversed(list(itertools.pairwise(wanted))):
            if not (split == number).any():
                # The last cluster before the border; if it was the only one there, the next round makes up for it.
                split[np.flatnonzero(split <= earlier)[-1]] = number
    return split


def _shares(sides: set[int], config: PreprocessConfig) -> tuple[list[float], list[int]]:
    """Returns the share of each split, and the sides whose examples are divided by them."""
    splits = config.splits
    named = sides - {-1}
    if splits.folds is not None:
        # Directories of splits decide about test alone.
        test = 0.0 if named else splits.test
        return [(1 - test) / splits.folds] * splits.folds + [test], [0]
    if 0 in named and 1 not in named:
        # Directories such as train/ and test/ alone: validation comes out of train.
        return [splits.train, splits.val, 0.0], [0]
    return [splits.train, splits.val, splits.test], []


def _check_folds(chosen: np.ndarray, config: PreprocessConfig) -> None:
    folds = config.splits.folds or 0
    empty = np.flatnonzero(np.bincount(chosen[chosen >= 0], minlength=folds)[:folds] == 0)
    if len(empty):
        raise ValueError(
            f"splits.folds: expected examples for {folds} folds, found none for fold {empty[0]}; there are too few "
            "images or groups beside test, so choose fewer folds"
        )


def _highest(labels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns the highest side of each label's rows, -1 for none, at the label's place."""
    highest = np.full(len(labels), -1)
    np.maximum.at(highest, labels, sides)
    return highest


def _divided(labels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns the rows that have a side, of the first label with several sides; none where there is no such label."""
    rows = np.flatnonzero(sides >= 0)
    other = rows[sides[rows] != _highest(labels, sides)[labels[rows]]]
    return rows[labels[rows] == labels[other[0]]] if len(other) else other


def _where(plan: pd.DataFrame, rows: np.ndarray) -> str:
    first = plan.iloc[rows].drop_duplicates("split")
    return " and ".join(f"{row.key} in {row.split}" for row in first.itertuples())
