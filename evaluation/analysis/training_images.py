"""What a run was trained on, beside the images it was judged on: is there anything like them?"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from evaluation.analysis.results import Result
from evaluation.exploration.dataset import Dataset
from evaluation.exploration.measures import EXAMPLE_COLUMNS, example_facts, measure_examples
from records.info import training_splits

_MOST = 20_000
_NEAR = 0.25
_TWIN_BITS = 10
_BLOCK = 256
_LOOK = ["brightness", "contrast"]
_PLACE = ["image", "slice_index"]  # a tile shares the facts of its image


def training_keys(result: Result, dataset: Dataset) -> list[str]:
    """Returns the keys of what the run was trained on; none where these are other records."""
    if result.files.config.get("records", {}).get("fingerprint") != dataset.info.fingerprint:
        return []
    splits, _ = training_splits(dataset.info, result.fold)
    return dataset.offsets.index[dataset.offsets["split"].isin(splits)].tolist()


def training_facts(dataset: Dataset, training: list[str], most: int, seed: int = 0) -> pd.DataFrame:
    """Returns brightness, contrast and cluster of training images, by key; of more than 20,000 those of a sample.

    Args:
      dataset: the records.
      training: keys.
      most: where the index does not know them (of slices), so many records are opened.
      seed: of the choice.
    """
    facts = example_facts(dataset, pd.DataFrame(columns=EXAMPLE_COLUMNS)).loc[training]
    if facts["brightness"].isna().all():
        some = np.random.default_rng(seed).choice(training, min(most, len(training)), replace=False) if training else []
        facts = example_facts(dataset, measure_examples(dataset, some)[0]).loc[some]
    return _sample(facts[["cluster", *_LOOK]].dropna())


def compare_training(facts: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Returns what in training looks like each image, as far as brightness and contrast tell.

    Args:
      facts: brightness, contrast and cluster of images, by key.
      known: those of training images.

    Returns:
      By key alike (share of the training images that differ in both by less than a quarter of their standard
      deviation in training) and nearest (key of the one that differs least). An image's own cluster (its group, its
      duplicates) is left out.
    """
    spread = known[_LOOK].std(ddof=0).replace(0, 1)
    rows: list[tuple[float, str | None]] = []
    for row in facts.itertuples():
        apart = ((known[_LOOK] - [row.brightness, row.contrast]) / spread).abs()
        apart = apart[(known["cluster"] != row.cluster) & apart.notna().all(axis=1)]
        near = (apart < _NEAR).all(axis=1)
        rows.append((near.mean(), (apart**2).sum(axis=1).idxmin()) if len(apart) else (np.nan, None))
    return pd.DataFrame(rows, index=facts.index, columns=["alike", "nearest"])


def hash_distances(dataset: Dataset, keys: list[str], training: list[str]) -> pd.Series:
    """Returns by key bits: in how many its perceptual hash differs from that of the nearest training image, of 64.

    An image's own cluster is left out; of more than 20,000 training images a sample is compared. NaN: no hashes.
    """
    hashes = _with_hashes(dataset)
    judged, known = hashes.reindex(keys).dropna(subset="hash"), hashes[hashes.index.isin(training)]
    known = _sample(known.drop_duplicates(_PLACE))
    found = pd.Series(np.nan, keys, name="bits")
    for start in range(0, len(judged) if len(known) else 0, _BLOCK):
        block = judged.iloc[start : start + _BLOCK]
        # Bits as -1 and 1: the product of two hashes is 64 - 2 * (bits that differ).
        apart = (64 - _bits(block["hash"]) @ _bits(known["hash"]).T) / 2
        apart[block["cluster"].to_numpy()[:, None] == known["cluster"].to_numpy()[None]] = np.nan
        found[block.index] = np.nanmin(np.column_stack([apart, np.full(len(block), 65)]), 1)
    return found.mask(found > 64)


def describe_twins(facts: pd.DataFrame, score: str) -> str:
    """Returns in a line how many images have a near-duplicate in training, and whether these score higher."""
    if not facts["bits"].notna().any():
        return "Perceptual hashes of these images and of training are not known."
    twins = facts[facts["bits"] <= _TWIN_BITS][score].dropna()
    others = facts[facts["bits"] > _TWIN_BITS][score].dropna()
    line = f"{len(twins)} of {len(twins) + len(others)} images have one in training whose hash differs in at most "
    line += f"{_TWIN_BITS} of 64 bits"
    if not len(twins) or not len(others):
        return f"{line} (the nearest: {facts['bits'].min():.0f})."
    return f"{line}: mean {score} {twins.mean():.4f}, of the others {others.mean():.4f}."


def training_sizes(dataset: Dataset, result: Result) -> pd.Series | None:
    """Returns the number of training examples by size of their raw images; None where they are not known."""
    keys = training_keys(result, dataset)
    return raw_sizes(dataset)[keys].value_counts() if keys else None


def raw_sizes(dataset: Dataset) -> pd.Series:
    """Returns height and width of the raw image of each example, as text, by key."""
    examples = dataset.examples.set_index("key")
    return examples["height"].astype(str) + " × " + examples["width"].astype(str)


def _sample(known: pd.DataFrame) -> pd.DataFrame:
    return known if len(known) <= _MOST else known.sample(_MOST, random_state=0)


def _with_hashes(dataset: Dataset) -> pd.DataFrame:
    """Returns image, slice_index, cluster and hash of the examples that have one, by key."""
    hashes = dataset.index.drop_duplicates(_PLACE).rename(columns={"perceptual_hash": "hash"})
    columns = ["key", "cluster", *_PLACE]
    examples = dataset.examples[columns].merge(hashes[[*_PLACE, "hash"]], on=_PLACE, how="left")
    return examples.dropna(subset="hash").set_index("key")


def _bits(hashes: Iterable[str]) -> np.ndarray:
    data = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 8)
    return np.unpackbits(data, axis=1).astype(np.float32) * 2 - 1
