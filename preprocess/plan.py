"""Plan: who is in, in which split and shard, and who is out and why. A pure function of index and settings.

Keys are shuffled here, never pixels: split and order come from salted hashes. A hash does not change when other
items come or go, so a dataset that grows keeps most of its items in their splits.
"""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig

PLAN_FILE = "plan.parquet"
SHARD_BYTES = 128 * 2**20

SPLITS = ("train", "val", "test")

# Which copy of a duplicate stays when raw directories put it into two splits: the held-out one.
_HELD_OUT_FIRST = {"test": 0, "val": 1, "train": 2}


def make_plan(index: pd.DataFrame, config: PreprocessConfig) -> pd.DataFrame:
    """Returns the plan: a row for every row of the index, those that are in first, in the order of the shards.

    Columns: key, group, image, mask, objects, height, width, channels, depth, sha256, mask_hash (from the index);
    status ("in", "rejected": the item is bad, "dropped": left out on purpose); reason (of the latter two); cluster
    (smallest key of those that share a group or a content, and so a split); split, shard, shards (how many the split
    has), position (in the shard).

    Raises:
      ValueError: the raw directories divide a group between splits.
    """
    plan = index.copy()
    plan["status"] = np.where(plan["error"].notna(), "rejected", "in")
    plan["reason"] = plan["error"]
    plan["cluster"] = _clusters(plan)
    if config.unlabeled:
        plan["split"] = "test"
    else:
        _check_groups(plan)
        _drop_leaks(plan)
        # What was dropped connects nothing any more.
        is_in = plan["status"] == "in"
        plan.loc[is_in, "cluster"] = _clusters(plan[is_in])
        _assign_splits(plan, config)
    is_in = plan["status"] == "in"
    plan.loc[~is_in, "split"] = None
    order = pd.DataFrame(
        {
            # The container (the image file) before the key: what shares a file stays together.
            "out": ~is_in,
            "split": plan["split"].map({name: number for number, name in enumerate(SPLITS)}),
            "container": _hashes(plan["image"], f"{config.seed}:order"),
            "key": plan["key"],
        }
    )
    plan = plan.loc[order.sort_values(list(order)).index].reset_index(drop=True)
    for column in ("shard", "shards", "position"):
        plan[column] = pd.array([pd.NA] * len(plan), dtype="Int64")
    for _, rows in plan[plan["status"] == "in"].groupby("split"):
        count = shard_count(len(rows), _estimated_bytes(rows, config))
        lengths = [len(part) for part in np.array_split(rows.index, count)]
        plan.loc[rows.index, "shard"] = np.repeat(np.arange(count), lengths)
        plan.loc[rows.index, "shards"] = count
        plan.loc[rows.index, "position"] = np.concatenate([np.arange(length) for length in lengths])
    facts = ["image", "mask", "objects", "height", "width", "channels", "depth", "sha256", "mask_hash"]
    return plan[["key", "group", "cluster", "status", "reason", "split", "shard", "shards", "position", *facts]]


def shard_count(examples: int, estimated_bytes: int) -> int:
    """Returns how many shards a split gets: of at most about 128 MiB, and some for small splits to read in parallel."""
    return max(-(-estimated_bytes // SHARD_BYTES), min(16, -(-examples // 16)))


def fingerprint(plan: pd.DataFrame, content: dict[str, Any]) -> str:
    """Returns the SHA-256 of what decides the records' bytes: settings, raw images and masks, splits and order.

    Args:
      plan: as `make_plan` returns it.
      content: as `PreprocessConfig.content` returns it.
    """
    columns = ["key", "group", "split", "shard", "position", "image", "sha256", "mask_hash"]
    rows = plan.loc[plan["status"] == "in", columns]
    text = json.dumps(content, sort_keys=True) + rows.to_json(orient="values")
    return hashlib.sha256(text.encode()).hexdigest()


def _clusters(plan: pd.DataFrame) -> pd.Series:
    """Returns, for each row, the smallest key among those connected to it by an equal group or equal content."""
    label = pd.Series(np.arange(len(plan)), plan.index)
    content = plan["sha256"].fillna(plan["key"])  # a file that could not be read equals nothing
    while True:
        smallest = label.groupby(plan["group"]).transform("min")
        smallest = smallest.groupby(content).transform("min")
        if (smallest == label).all():
            break
        label = smallest
    first_key = plan["key"].groupby(label).min()
    return label.map(first_key)


def _check_groups(plan: pd.DataFrame) -> None:
    splits = plan[plan["status"] == "in"].groupby("group")["split"].nunique()
    if (splits > 1).any():
        group = splits.idxmax()
        rows = plan[(plan["group"] == group) & plan["split"].notna()].drop_duplicates("split")
        where = " and ".join(f"{row.key} in {row.split}" for row in rows.itertuples())
        raise ValueError(
            f"the raw directories divide the group {group!r} between splits: {where}; "
            "move its images into one, or change --group_by"
        )


def _drop_leaks(plan: pd.DataFrame) -> None:
    """Drops items whose very content the raw directories also put into a split that is held out more."""
    candidates = plan[(plan["status"] == "in") & plan["split"].notna() & plan["sha256"].notna()]
    rank = candidates["split"].map(_HELD_OUT_FIRST)
    best = rank.groupby(candidates["sha256"]).transform("min")
    kept = candidates[rank == best].drop_duplicates("sha256").set_index("sha256")
    for row, sha256 in candidates.loc[rank > best, "sha256"].items():
        twin = kept.loc[sha256]
        plan.loc[row, ["status", "reason"]] = ["dropped", f"same file as {twin['image']} in split {twin['split']}"]


def _assign_splits(plan: pd.DataFrame, config: PreprocessConfig) -> None:
    """Gives every cluster one split: the raw directories' where they name one, else by its hash."""
    is_in = plan["status"] == "in"
    shares = {"train": config.splits.train, "val": config.splits.val, "test": config.splits.test}
    named = plan.loc[is_in, "split"]
    free = named.isna()
    if (named == "train").any() and not (named == "val").any():
        # Directories such as train/ and test/ alone: validation comes out of train.
        free |= named == "train"
        shares["test"] = 0.0
    # A cluster that touches a named split follows it.
    by_cluster = named[~free].groupby(plan.loc[is_in, "cluster"][~free])
    if (by_cluster.nunique() > 1).any():
        key = by_cluster.nunique().idxmax()
        raise ValueError(
            f"the raw directories divide what groups and equal files tie to {key!r} between splits; "
            "move it into one, or change --group_by"
        )
    fixed = by_cluster.first()
    clusters = plan.loc[is_in, "cluster"].value_counts()
    loose = clusters[~clusters.index.isin(fixed.index)]
    loose = loose.iloc[np.argsort(_hashes(loose.index.to_series(), f"{config.seed}:split").to_numpy())]
    # A cluster belongs where its middle falls when all are laid end to end.
    middle = (loose.cumsum() - loose / 2) / max(1, loose.sum())
    bounds = np.cumsum(list(shares.values())) / sum(shares.values())
    chosen = pd.Series(
        np.array(SPLITS)[np.searchsorted(bounds, middle.to_numpy(), side="right").clip(max=2)], loose.index
    )
    plan.loc[is_in, "split"] = plan.loc[is_in, "cluster"].map(pd.concat([fixed, chosen]))


def _estimated_bytes(rows: pd.DataFrame, config: PreprocessConfig) -> int:
    """Returns about how many bytes the examples take; PNG of a photograph takes about half of its pixels."""
    pixels = rows["height"] * rows["width"] if config.size is None else config.size**2
    png = pixels * rows["channels"] * rows["depth"] / 8 / 2
    image = rows["image_bytes"].where(rows["image_bytes"] < png, png) if config.size is None else png
    return int((image + pixels / 20).sum())


def _hashes(values: pd.Series, salt: str) -> pd.Series:
    return values.map(lambda value: hashlib.sha256(f"{salt}:{value}".encode()).hexdigest())
