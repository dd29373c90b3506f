"""Balance: what is left out on purpose: outliers, objects beyond the quota, too many empty examples.

Who stays is decided by salted hashes of the keys: a dataset that grows keeps most of those chosen before.
"""

import math

import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig, parse_quota
from preprocess.plan.hashes import salted_hashes


def drop(plan: pd.DataFrame, rows: np.ndarray, reason: str | pd.Series) -> None:
    """Marks the rows (bool) as dropped; what stands before the reason's first colon is the same for all of a kind."""
    plan["status"] = plan["status"].mask(rows, "dropped")
    plan["reason"] = plan["reason"].mask(rows, reason)


def drop_outliers(plan: pd.DataFrame, config: PreprocessConfig) -> None:
    """Drops the images whose flag the config names."""
    for flag in config.drop_outliers:
        drop(plan, ((plan["status"] == "in") & (plan["outlier"] == flag)).to_numpy(), f"outlier, {flag}")


def check_objects(plan: pd.DataFrame, option: str) -> None:
    """Raises ValueError where the number of objects is unknown, which the option needs."""
    unknown = plan.loc[(plan["status"] == "in") & plan["objects"].isna(), "key"]
    if len(unknown):
        raise ValueError(
            f"{option}: expected the number of objects of every image, found none for {unknown.iloc[0]!r} "
            f"({len(unknown)} in all); the layout counts no objects; leave the option out"
        )


def apply_quota(plan: pd.DataFrame, quota: str, seed: int) -> list[str]:
    """Drops what the quota does not name and what goes beyond it; returns a line for each number that falls short.

    Raises:
      ValueError: the number of objects is unknown.
    """
    check_objects(plan, "quota")
    parts = sorted(parse_quota(quota), key=lambda part: part[0])
    low = np.array([part[0] for part in parts])
    high = np.array([np.inf if part[1] is None else part[1] for part in parts])
    wanted = np.array([part[2] for part in parts])
    rows = np.flatnonzero(plan["status"] == "in")
    objects = plan["objects"].iloc[rows].to_numpy(np.int64)
    part = np.searchsorted(low, objects, side="right") - 1
    named = (part >= 0) & (objects <= high[part])
    found = np.bincount(part[named], minlength=len(parts))

    order = np.flatnonzero(named)
    hashes = salted_hashes(plan["key"].iloc[rows[order]], f"{seed}:quota")
    order = order[np.lexsort((hashes, part[order]))]
    rank = np.arange(len(order)) - np.repeat(found.cumsum() - found, found)
    above = order[rank >= wanted[part[order]]]

    for reason, dropped in (("not in the quota", rows[~named]), ("above the quota", rows[above])):
        is_dropped = np.zeros(len(plan), bool)
        is_dropped[dropped] = True
        drop(plan, is_dropped, f"{reason}: " + plan["objects"].astype("str") + " objects")
    return [
        f"quota: {first}{' or more' * (last is None)} object{'s' * (first != 1)}: {number} wanted, {count} found"
        for (first, last, number), count in zip(parts, found, strict=True)
        if count < number
    ]


def limit_empty(plan: pd.DataFrame, share: float, seed: int) -> None:
    """Drops empty examples, those without an annotated pixel, until they are at most this share of what stays.

    Raises:
      ValueError: neither foreground nor objects say whether an example is empty.
    """
    is_in = (plan["status"] == "in").to_numpy()
    measure = plan["foreground"].fillna(plan["objects"])
    unknown = plan.loc[is_in & measure.isna().to_numpy(), "key"]
    if len(unknown):
        raise ValueError(
            f"drop_empty, max_empty: expected annotated pixels or objects of every example, found neither for "
            f"{unknown.iloc[0]!r} ({len(unknown)} in all); leave the option out"
        )
    empty = np.flatnonzero(is_in & (measure.to_numpy(np.int64, na_value=-1) == 0))
    others = int(is_in.sum()) - len(empty)
    # The small term: 0.1 of 90 others are 10, not 9.999….
    kept = len(empty) if share == 1 else math.floor(share * others / (1 - share) + 1e-9)
    order = np.argsort(salted_hashes(plan["key"].iloc[empty], f"{seed}:empty"), kind="stable")
    dropped = np.zeros(len(plan), bool)
    dropped[empty[order[kept:]]] = True
    drop(plan, dropped, "empty" if share == 0 else "empty, above --max_empty")
