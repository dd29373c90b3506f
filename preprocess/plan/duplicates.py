"""Duplicates: equal files, and images whose perceptual hashes differ in a few bits. All vectorised: ten million hashes
take seconds, and pairs are never listed beyond those that share a bucket.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

_HASH_BITS = 64
# Above the first size of a bucket, each hash is compared with the following ones only, as many as the second says.
_LARGE_BUCKET, _FOLLOWING = 1000, 100
_PAIRS_AT_ONCE = 10_000_000
_LARGE_CLUSTER = 0.2


def find_duplicates(plan: pd.DataFrame, distance: int | None) -> np.ndarray:
    """Returns for each row the number of the first row that it duplicates, directly or through others; int64.

    Duplicates are equal files (slices of equal volumes: those of equal index) and images whose perceptual hashes differ
    in at most `distance` bits (None: only equal files). Rows that are not in duplicate nothing.
    """
    is_in = (plan["status"] == "in").to_numpy()
    labels = first_rows(plan["sha256"].where(is_in))
    slices = plan["slice_index"].to_numpy(np.int64, na_value=-1) + 1
    labels = first_rows(pd.Series(labels * (slices.max(initial=0) + 1) + slices))
    hashed = np.flatnonzero(is_in & plan["perceptual_hash"].notna().to_numpy())
    if distance is None or not len(hashed):
        return labels
    digits = "".join(plan["perceptual_hash"].iloc[hashed].to_numpy(object))
    hashes = np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)
    different, first, number = np.unique(hashes, return_index=True, return_inverse=True)
    near = near_hashes(different, distance)
    return connect(labels, hashed, hashed[first[near[number]]])


def near_hashes(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Returns for each hash the position of the smallest one that a chain of neighbours leads to; int64.

    Neighbours differ in at most `distance` bits. The bits are cut into distance + 2 bands: two neighbours agree in at
    least two of them, so only hashes that agree in a pair of bands are compared. More than 1,000 hashes in one such
    bucket are compared with the next 100 in sorted order each, which finds most neighbours but not all. Of pictures
    that differ, this takes tens of millions, or a distance of 7 or 8 bits and millions.

    Args:
      hashes: uint64 [N], different ones, ascending.
      distance: 0 to 62 bits.
    """
    labels = np.arange(len(hashes))
    if distance == 0:
        return labels
    edges = [_HASH_BITS * band // (distance + 2) for band in range(distance + 3)]
    bands = [(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)]
    for one, other in itertools.combinations(bands, 2):
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for pairs in _neighbours(hashes, np.uint64(one | other), distance):
            found.append(pairs)
            if sum(len(left) for left, _ in found) > _PAIRS_AT_ONCE:
                labels, found = _connect_all(labels, found), []
        labels = _connect_all(labels, found)
    return labels


def _neighbours(hashes: np.ndarray, mask: np.uint64, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields positions (left, right) of neighbours among the hashes that agree under the mask."""
    bucket = hashes & mask
    order = np.argsort(bucket, kind="stable")
    bucket, ordered = bucket[order], hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
    sizes = np.diff(np.append(starts, len(bucket)))
    # How many follow each hash in its bucket.
    reach = np.repeat(starts + sizes, sizes) - np.arange(len(bucket)) - 1
    large = np.repeat(sizes > _LARGE_BUCKET, sizes)
    reach[large] = reach[large].clip(max=_FOLLOWING)
    rows = np.arange(len(bucket))
    for step in itertools.count(1):
        rows = rows[reach[rows] >= step]
        if not len(rows):
            return
        near = rows[_count_bits(ordered[rows] ^ ordered[rows + step]) <= distance]
        if len(near):
            yield order[near], order[near + step]


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Returns the number of ones in each uint64, by sums of neighbouring bits, pairs, fours and bytes."""
    values = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    values = (values & np.uint64(0x3333333333333333)) + ((values >> np.uint64(2)) & np.uint64(0x3333333333333333))
    values = (values + (values >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _connect_all(labels: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    if not pairs:
        return labels
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return connect(labels, left, right)


def connect(labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the labels after connecting left[i] with right[i] for every i.

    A label is the number of the first row of those connected, so labels[labels] == labels. Chains of any length are
    followed in few rounds: each hangs whole trees beneath smaller ones, then every row points to its root.
    """
    labels = labels.copy()
    while len(left):
        left, right = labels[left], labels[right]
        apart = left != right
        left, right = left[apart], right[apart]
        np.minimum.at(labels, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(labels, further := labels[labels]):
            labels = further
    return labels


def first_rows(values: pd.Series) -> np.ndarray:
    """Returns for each row the number of the first row with an equal value, its own where the value is missing."""
    codes, _ = pd.factorize(values)
    rows = np.arange(len(codes))
    known = np.flatnonzero(codes >= 0)
    firsts = np.empty(codes.max(initial=-1) + 1, np.int64)
    firsts[codes[known][::-1]] = rows[known][::-1]  # of several, the one written last stays
    rows[known] = firsts[codes[known]]
    return rows


def describe_clusters(plan: pd.DataFrame) -> str | None:
    """Returns a line on the duplicates among the examples that are in, or None where there are none."""
    examples = int((plan["status"] == "in").sum())
    rows = plan.loc[(plan["status"] == "in") & plan["duplicate"].notna(), ["duplicate", "split", "image"]]
    # Where the others were dropped, what is left duplicates nothing, in however many tiles.
    rows = rows[_several(rows, "image")]
    counts = rows["duplicate"].value_counts()
    if counts.empty:
        return None
    largest = int(counts.max())
    line = f"{counts.sum()} examples are in {len(counts)} cluster{'s' * (len(counts) != 1)}, the largest of {largest}"
    divided = int(_several(rows, "split").sum())
    if divided:
        line += f"; {divided} near-duplicates lie in two splits, where raw directories or the list of splits put them"
    if largest > _LARGE_CLUSTER * examples:
        line += f"; warning: {largest / examples:.0%} of all examples in one cluster, --near_duplicates may be too wide"
    return line


def _several(rows: pd.DataFrame, column: str) -> pd.Series:
    """Returns for each row whether its duplicates have several values in the column."""
    values = rows[["duplicate", column]].drop_duplicates()["duplicate"].value_counts()
    return rows["duplicate"].isin(values.index[values > 1])
