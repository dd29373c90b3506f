"""Plan: who is in, in which split, fold and shard, and who is out and why. A pure function of index, settings and the
user's lists.

Keys are shuffled here, never pixels: split and order come from salted hashes. A hash does not change when other
items come or go, so a dataset that grows keeps most of its items in their splits.
"""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig
from preprocess.plan.balance import apply_quota, drop_outliers, limit_empty
from preprocess.plan.duplicates import describe_clusters, find_duplicates
from preprocess.plan.hashes import salted_hashes
from preprocess.plan.lists import follow_keys, follow_sample
from preprocess.plan.split import (
    assign_splits,
    check_groups,
    check_list,
    drop_leaks,
    find_sides,
    find_strata,
    split_names,
    tie_clusters,
)
from preprocess.plan.tiles import CROP, cut_tiles

PLAN_FILE = "plan.parquet"
SHARD_BYTES = 128 * 2**20

_COLUMNS = [
    *("key", "group", "cluster", "duplicate", "status", "reason", "split", "fold", "shard", "shards", "position"),
    *("image", "mask", "slice_index", *CROP, "objects", "foreground", "height", "width", "channels", "depth"),
    *("sha256", "mask_hash", "outlier"),
]
_FINGERPRINT_COLUMNS = [
    *("key", "group", "split", "shard", "position", "image", "sha256", "mask_hash", "slice_index", *CROP)
]
_ROWS_AT_ONCE = 2**16
_REASONS_SHOWN = 3


def make_plan(
    index: pd.DataFrame,
    config: PreprocessConfig,
    keys: pd.DataFrame | None = None,
    sample: list[str] | None = None,
) -> pd.DataFrame:
    """Returns the plan: a row for every row of the index, or tile, those that are in first, in the order of the shards.

    Columns: key; group; cluster (smallest key of the images that share a group, a file or a near-duplicate, and so a
    split); duplicate (smallest key of the images with an equal file or a near-duplicate hash, NA where unique); status
    ("in", "rejected": the item is bad, "dropped": left out on purpose); reason (of the latter two); split; fold (NA
    without folds, and in test); shard, shards (how many the split has), position (in the shard); image; mask;
    slice_index; crop_y, crop_x, crop_height, crop_width (NA without --tile); objects, foreground (NA where unknown);
    height, width (of the raw image), channels, depth, sha256, mask_hash, outlier (from the index).

    `attrs["shortages"]` holds a line for each number of the quota that could not be met.

    Args:
      index: as `make_index` returns it.
      config: settings.
      keys: content of --splits.keys, columns key and split.
      sample: image ids of the sample submission, in its order.

    Raises:
      ValueError: raw directories or lists divide a group, a list names what is not there, the index does not know what
        a choice needs, or nothing is left.
    """
    plan = _begin(index)
    images = plan["key"]
    # The lists come first: what they do not name fills no quota and ties nothing together.
    if keys is not None:
        follow_keys(plan, keys, config)
    # The container (the image file) decides the order before the key: what shares a file stays together.
    plan["rank"] = (
        salted_hashes(plan["image"], f"{config.seed}:order") if sample is None else follow_sample(plan, sample)
    )
    drop_outliers(plan, config)

    duplicates = find_duplicates(plan, config.near_duplicates)
    several = np.bincount(duplicates, minlength=len(plan))[duplicates] > 1
    plan["duplicate"] = images.take(duplicates).set_axis(plan.index).where(several)
    sides = np.full(len(plan), -1) if config.unlabeled else find_sides(plan, config)
    if keys is not None:
        check_list(plan, sides)
    else:
        check_groups(plan, sides)
        sides = drop_leaks(plan, sides)
    plan["cluster"], plan["side"] = tie_clusters(plan, duplicates, sides)

    shortages = [] if config.quota is None else apply_quota(plan, config.quota, config.seed)
    if config.splits.stratify:
        plan["stratum"] = find_strata(plan)
    if config.tile:
        plan = cut_tiles(plan, config.size, config.tile_overlap)
    if config.needs_foreground:
        limit_empty(plan, config.max_empty or 0.0, config.seed)
    _check_something_is_left(plan)
    numbers = assign_splits(plan, images, plan["side"].to_numpy(), config, listed=keys is not None)
    plan["cluster"] = images.take(plan["cluster"]).set_axis(plan.index)
    plan = _cut_shards(plan, numbers, config)
    plan.attrs["shortages"] = shortages
    return plan


def shard_count(examples: int, estimated_bytes: int) -> int:
    """Returns how many shards a split gets: of at most about 128 MiB, and some for small splits to read in parallel."""
    return min(examples, max(-(-estimated_bytes // SHARD_BYTES), min(16, -(-examples // 16))))


def fingerprint(plan: pd.DataFrame, content: dict[str, Any]) -> str:
    """Returns the SHA-256 of what decides the records' bytes: settings, raw images and masks, splits and order.

    Args:
      plan: as `make_plan` returns it.
      content: as `PreprocessConfig.content` returns it.
    """
    rows = plan.loc[plan["status"] == "in", _FINGERPRINT_COLUMNS]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in _FINGERPRINT_COLUMNS:
        digest.update(json.dumps(name).encode())
        # Some rows at a time: the text of a whole column takes gigabytes where there are millions.
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            values = rows[name].iloc[start : start + _ROWS_AT_ONCE].astype(object)
            digest.update(json.dumps(values.where(values.notna(), None).tolist()).encode())
    return digest.hexdigest()


def describe_plan(plan: pd.DataFrame, config: PreprocessConfig) -> list[str]:
    """Returns lines for the user: splits, what is out and why, duplicates, flagged images, quotas that fall short."""
    is_in = plan["status"] == "in"
    splits = plan.loc[is_in, ["split", "shards"]].groupby("split")["shards"].agg(["size", "first"])
    parts = []
    for name in split_names(config):
        size, shards = (int(value) for value in splits.loc[name]) if name in splits.index else (0, 0)
        parts.append(f"{name} {size} ({shards} shard{'s' * (shards != 1)})")
    for status in ("rejected", "dropped"):
        count = int((plan["status"] == status).sum())
        parts += [f"{status} {count}"] if count else []
    lines = [("plan", " · ".join(parts)), *_describe_empty_splits(plan, splits.index, config)]
    # What stands before the colon is the same for all of a kind.
    reasons = plan.loc[plan["status"] == "dropped", "reason"].str.split(":", n=1).str[0].value_counts()
    if len(reasons):
        others = [f"others {reasons.iloc[_REASONS_SHOWN:].sum()}"] if len(reasons) > _REASONS_SHOWN else []
        shown = [f"{reason} {count}" for reason, count in reasons.iloc[:_REASONS_SHOWN].items()]
        lines.append(("dropped", " · ".join(shown + others)))
    flags = plan.loc[is_in, "outlier"].value_counts()
    if len(flags):
        counts = " · ".join(f"{flag} {count}" for flag, count in flags.sort_index().items())
        lines.append(("outliers", f"{counts} are in; --drop_outliers leaves them out"))
    sizes = plan.loc[is_in, "group"].value_counts()
    if len(sizes) < is_in.sum():
        lines.append(("groups", f"{len(sizes)}, the largest of {sizes.max()} examples"))
    clusters = describe_clusters(plan)
    lines += [("duplicates", clusters)] if clusters else []
    return [f"{label:<10} {text}" for label, text in lines] + plan.attrs.get("shortages", [])


def _describe_empty_splits(plan: pd.DataFrame, found: pd.Index, config: PreprocessConfig) -> list[tuple[str, str]]:
    """Returns a line if the shares ask for a split that is empty: with few patients, say, one is as much as a share."""
    empty = [name for name in split_names(config) if name not in found and getattr(config.splits, name, 0)]
    if config.unlabeled or not empty:
        return []
    clusters = plan.loc[plan["status"] == "in", "cluster"].nunique()
    text = f"{' and '.join(empty)} without examples: {clusters} independent images or groups, choose larger --splits"
    return [("warning", text)]


def _begin(index: pd.DataFrame) -> pd.DataFrame:
    """Returns the index in the order of its keys, with status and reason."""
    plan = index if index["key"].is_monotonic_increasing else index.sort_values("key")
    plan = plan.reset_index(drop=True)
    is_bad = plan["error"].notna()
    plan["status"] = pd.Series("in", plan.index, dtype="str").mask(is_bad, "rejected")
    plan["reason"] = plan["error"].astype("str")
    for column in CROP:
        plan[column] = pd.array([pd.NA], dtype="Int64").take(np.zeros(len(plan), np.int64))
    return plan


def _check_something_is_left(plan: pd.DataFrame) -> None:
    dropped = plan.loc[plan["status"] == "dropped", "reason"]
    if len(dropped) and not (plan["status"] == "in").any():
        reason, count = next(iter(dropped.value_counts().items()))
        raise ValueError(
            f"expected examples that stay, found none: {len(dropped)} are dropped, {count} of them: {reason}"
        )


def _cut_shards(plan: pd.DataFrame, numbers: np.ndarray, config: PreprocessConfig) -> pd.DataFrame:
    """Returns the finished plan.

    Args:
      plan: in the order of the keys.
      numbers: of each row's split, -1 where it is not in.
      config: settings.
    """
    names = split_names(config)
    place = np.where(numbers < 0, len(names), numbers).astype(np.uint8)  # what is out comes last
    order = np.lexsort((plan["rank"].to_numpy(), place))
    place, sizes = place[order], _estimated_bytes(plan, config)[order]
    plan = plan[[name for name in _COLUMNS if name in plan]].take(order).reset_index(drop=True)
    is_out = place == len(names)
    shard, shards, position = (np.zeros(len(plan), np.int64) for _ in range(3))
    for number in np.unique(place[~is_out]):
        begin, end = np.searchsorted(place, (number, number + 1))
        count = shard_count(int(end - begin), int(sizes[begin:end].sum()))
        lengths = [len(part) for part in np.array_split(np.empty(end - begin, bool), count)]
        shard[begin:end] = np.repeat(np.arange(count), lengths)
        shards[begin:end] = count
        position[begin:end] = np.concatenate([np.arange(length) for length in lengths])
    for name, values in (("shard", shard), ("shards", shards), ("position", position)):
        plan[name] = pd.arrays.IntegerArray(values, is_out)
    plan["split"] = pd.Series(np.array([*names, None], object)[place], dtype="str")
    plan["fold"] = pd.arrays.IntegerArray(place.astype(np.int64), place >= (config.splits.folds or 0))
    return plan[_COLUMNS]


def _estimated_bytes(plan: pd.DataFrame, config: PreprocessConfig) -> np.ndarray:
    """Returns about how many bytes each example takes; PNG of a photograph takes about half of its pixels, JPEG a
    quarter of a byte per value.
    """
    columns = ("height", "width", "channels", "depth", "image_bytes")
    height, width, channels, depth, stored = (plan[name].to_numpy(np.float64, na_value=0) for name in columns)
    pixels = height * width if config.size is None else np.full(len(plan), float(config.size**2))
    if config.coding == "raw":
        # All get the most channels and the widest dtype.
        is_in = (plan["status"] == "in").to_numpy()
        image = pixels * channels[is_in].max(initial=0) * depth[is_in].max(initial=0) / 8
    elif config.coding == "jpeg":
        image = pixels * channels / 4
    else:
        image = pixels * channels * depth / 8 / 2
        if config.coding == "keep" and config.size is None:
            image = np.where(stored < image, stored, image)
    return image + pixels / 20
