"""Pairs of examples that look most alike, by their perceptual hashes."""

import numpy as np
import pandas as pd

from evaluation.exploration.dataset import Dataset

_MOST_HASHES = 4000


def closest_pairs(dataset: Dataset, count: int, seed: int = 0) -> pd.DataFrame:
    """Returns first, second (keys) and bits (in which their hashes differ), the closest first; no key is there twice.

    Of more than 4,000 hashes a random sample is compared. A tiled image counts once, with its first tile.

    Args:
      dataset: records or a plan.
      count: of pairs, at most.
      seed: of the sample.
    """
    examples = dataset.examples.drop_duplicates("image")
    hashes = dataset.index.drop_duplicates("image").set_index("image")["perceptual_hash"]
    examples = examples.assign(hash=examples["image"].map(hashes)).dropna(subset="hash")
    if len(examples) > _MOST_HASHES:
        examples = examples.sample(_MOST_HASHES, random_state=seed)
    keys = examples["key"].to_numpy()
    data = np.frombuffer(bytes.fromhex("".join(examples["hash"])), np.uint8).reshape(-1, 8)
    # Bits as -1 and 1: the product of two hashes is 64 - 2 * (bits that differ).
    bits = np.unpackbits(data, axis=1).astype(np.float32) * 2 - 1
    left, right = np.triu_indices(len(keys), 1)
    apart = ((64 - bits @ bits.T) / 2).astype(np.uint8)[left, right]
    rows: list[tuple[str, str, int]] = []
    taken: set[int] = set()
    for pair in np.argsort(apart, kind="stable")[: 100 * count]:
        ends = {int(left[pair]), int(right[pair])}
        if len(rows) < count and not ends & taken:
            rows.append((keys[left[pair]], keys[right[pair]], int(apart[pair])))
            taken |= ends
    return pd.DataFrame(rows, columns=["first", "second", "bits"])
