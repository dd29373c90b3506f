"""Counts of a dataset as small tables: splits, what was left out, classes, groups, duplicates, outliers."""

import re

import pandas as pd

from evaluation.exploration.dataset import Dataset
from records.info import RecordsInfo


def split_table(dataset: Dataset) -> pd.DataFrame:
    """Returns by split: examples, their share, groups, shards and MiB (NA before the records are written)."""
    rows = []
    for split in dataset.splits:
        part = dataset.examples[dataset.examples["split"] == split]
        written = dataset.info.splits[split] if dataset.info else None
        row = {"split": split, "examples": len(part), "share": round(len(part) / len(dataset.examples), 3)}
        row |= {"groups": part["group"].nunique(), "shards": part["shard"].nunique()}
        row["MiB"] = round(sum(written.shard_bytes) / 2**20, 1) if written else pd.NA
        rows.append(row)
    return pd.DataFrame(rows).set_index("split")


def left_out_table(dataset: Dataset) -> pd.DataFrame:
    """Returns, for each kind of reason, how many were rejected (bad) or dropped (on purpose), and one of their keys."""
    out = dataset.plan[dataset.plan["status"] != "in"]
    kinds = [_kind(status, reason) for status, reason in zip(out["status"], out["reason"], strict=True)]
    table = out.assign(reason=kinds).groupby(["status", "reason"])["key"].agg(["size", "first"]).reset_index()
    table = table.rename(columns={"size": "items", "first": "for example"})
    return table.sort_values(["items", "reason"], ascending=[False, True], ignore_index=True)


def size_table(dataset: Dataset) -> pd.DataFrame:
    """Returns height and width (pixels) of the raw images or slices, and how many there are of each, most first."""
    sizes = dataset.index[dataset.index["height"].notna()].value_counts(["height", "width"])
    return sizes.rename("images").reset_index().astype("int64")


def class_table(info: RecordsInfo) -> pd.DataFrame:
    """Returns for each split and class its share of the pixels and of the examples, as info.json counts them.

    Shares of pixels are of those that are labelled (not ignored); where classes overlap, of the sum over all classes.
    """
    rows = []
    for split, counts in info.splits.items():
        for name, pixels, examples in zip(info.classes, counts.class_pixels, counts.class_examples, strict=True):
            if counts.num_examples:
                share = pixels / max(1, sum(counts.class_pixels))
                rows.append((split, name, share, examples / counts.num_examples))
    return pd.DataFrame(rows, columns=["split", "class", "pixels", "examples"])


def group_table(dataset: Dataset) -> pd.DataFrame:
    """Returns by split: groups, and the median and largest number of examples of a group."""
    sizes = dataset.examples.groupby(["split", "group"]).size()
    table = sizes.groupby("split").agg(["size", "median", "max"]).loc[dataset.splits]
    return table.rename(columns={"size": "groups", "median": "median examples", "max": "most examples"})


def duplicate_table(dataset: Dataset) -> pd.DataFrame:
    """Returns the clusters of near-duplicates, largest first: cluster (its smallest key), examples, splits.

    A cluster in more than one split is a leak: the raw directories, or a list of splits, divided it.
    """
    rows = dataset.examples[dataset.examples["duplicate"].notna()]
    table = rows.groupby("duplicate").agg(
        examples=("key", "size"), splits=("split", lambda names: ", ".join(sorted(set(names))))
    )
    table = table[table["examples"] > 1].rename_axis("cluster").reset_index()
    return table.sort_values(["examples", "cluster"], ascending=[False, True], ignore_index=True)


def outlier_table(dataset: Dataset) -> pd.DataFrame:
    """Returns by flag (blank, uniform, clipped) how many images are in and how many are left out."""
    flagged = dataset.plan[dataset.plan["outlier"].notna()]
    status = flagged["status"].where(flagged["status"] == "in", "left out")
    table = pd.crosstab(flagged["outlier"], status).rename_axis(columns=None)
    return table.reindex(columns=["in", "left out"], fill_value=0)


def _kind(status: str, reason: str) -> str:
    """Returns a reason without what is special to one item: the same for all of a kind."""
    if status == "dropped":
        return reason.partition(":")[0]
    return re.sub(r"\d+", "#", re.sub(r"^(\S+: )+", "", reason))
