"""What is known of the judged images: beside each one's scores, what its pixels, index and plan say."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from evaluation.analysis.results import Result
from evaluation.exploration.dataset import Dataset, ExamplePixels, read_examples
from evaluation.exploration.measures import EXAMPLE_COLUMNS, brightness_unit, example_facts, measure_examples
from records.info import training_splits

_MOST_TRAINING = 20_000
_BLOCK = 256
_NEAR = 0.25
_TWIN = 10
_PLACE = ["image", "slice_index"]  # a tile shares the facts of its image


class Measure(NamedTuple):
    """A column of `read_facts`: what it means, its unit, and whether it is drawn on a logarithmic axis."""

    label: str
    unit: str
    log: bool = False


MEASURES = {
    "objects": Measure("objects", "number", log=True),
    "diameter": Measure("median size of its objects", "diameter, pixels", log=True),
    "touching": Measure("objects that touch another", "share of its objects"),
    "foreground": Measure("annotated area", "share of the pixels"),
    "brightness": Measure("brightness", "mean"),
    "contrast": Measure("contrast", "standard deviation of grey"),
    "alike": Measure("training images like it", "share of training", log=True),
}


def known_measures(facts: pd.DataFrame) -> list[str]:
    """Returns the measures that are known of three images or more, and not the same of all."""
    return [name for name in MEASURES if name in facts and facts[name].count() > 2 and facts[name].nunique() > 1]


def unit_of(measure: str, dataset: Dataset) -> str:
    """Returns the unit of a measure, as axes say it."""
    return brightness_unit(dataset.info) if measure == "brightness" else MEASURES[measure].unit


def read_facts(result: Result, dataset: Dataset, most: int, seed: int = 0) -> pd.DataFrame:
    """Returns scores and facts of judged images, by key, in the order of their keys.

    Images that the records do not have (raw ones, of which the records have tiles) are left out.

    Args:
      result: an evaluation of these records.
      dataset: the records.
      most: of more images so many are opened, chosen at random.
      seed: of the choice.

    Returns:
      The columns of per_image.csv; split, cluster; the measures of `MEASURES`; size (height x width of the raw image);
      nearest and bits, see `compare_training`. What is not known is NaN.

    Raises:
      ValueError: the records are not finished, or not those that were judged.
    """
    _check(result, dataset)
    images = result.judged.images
    keys = sorted(images.index[images.index.isin(dataset.offsets.index)])
    if len(keys) > most:
        keys = sorted(np.random.default_rng(seed).choice(keys, most, replace=False).tolist())
    measured, objects = measure_examples(dataset, keys)
    facts = example_facts(dataset, measured).reindex(keys)
    facts["objects"] = facts["objects"].fillna(facts["areas"])
    facts["diameter"] = objects.groupby("key")["diameter"].median().reindex(keys)
    facts["touching"] = pd.Series({one.key: touching_share(one) for one in read_examples(dataset, keys)}, dtype=float)
    facts["size"] = _raw_sizes(dataset).reindex(keys)
    training = training_keys(result, dataset)
    facts = facts.join(compare_training(dataset, facts, training)).join(hash_distances(dataset, keys, training))
    return images.loc[keys].join(facts.drop(columns=["group", "areas"]))


def training_keys(result: Result, dataset: Dataset) -> list[str]:
    """Returns the keys of what the run was trained on; none where these are other records."""
    if result.files.config.get("records", {}).get("fingerprint") != dataset.info.fingerprint:
        return []
    splits, _ = training_splits(dataset.info, result.fold)
    return dataset.offsets.index[dataset.offsets["split"].isin(splits)].tolist()


def compare_training(dataset: Dataset, facts: pd.DataFrame, training: list[str]) -> pd.DataFrame:
    """Returns what in training looks like each image, as far as brightness and contrast tell.

    Args:
      dataset: the records.
      facts: brightness, contrast and cluster of images, by key.
      training: keys.

    Returns:
      By key alike (share of the training images that differ in both by less than a quarter of their standard
      deviation in training) and nearest (key of the one that differs least). An image's own cluster (its group, its
      duplicates) is left out. Of more than 20,000 training images a sample is compared.
    """
    columns = ["brightness", "contrast"]
    known = example_facts(dataset, pd.DataFrame(columns=EXAMPLE_COLUMNS)).loc[training].dropna(subset=columns)
    known = _sample(known)
    spread = known[columns].std(ddof=0).replace(0, 1)
    rows: list[tuple[float, str | None]] = []
    for row in facts.itertuples():
        apart = ((known[columns] - [row.brightness, row.contrast]) / spread).abs()
        apart = apart[(known["cluster"] != row.cluster) & apart.notna().all(axis=1)]
        near = (apart < _NEAR).all(axis=1)
        rows.append((near.mean(), (apart**2).sum(axis=1).idxmin()) if len(apart) else (np.nan, None))
    return pd.DataFrame(rows, index=facts.index, columns=["alike", "nearest"])


def touching_share(example: ExamplePixels) -> float:
    """Returns the share of an example's objects that touch another, at an edge or a corner; NaN: not known, or none."""
    labels = example.instances
    if labels is None or not labels.any():
        return float("nan")
    meeting: set[int] = set()
    height, width = labels.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left, start = max(0, -right), max(0, right)
        here = labels[: height - down, left : width - start]
        there = labels[down:, start : width - left]
        touches = (here != there) & (here > 0) & (there > 0)
        meeting.update(here[touches].tolist(), there[touches].tolist())
    return len(meeting) / len(np.unique(labels[labels > 0]))


def hash_distances(dataset: Dataset, keys: list[str], training: list[str]) -> pd.Series:
    """Returns by key bits: in how many its perceptual hash differs from that of the nearest training image, of 64.

    Own clusters and many training images: as in `compare_training`. NaN where there are no hashes.
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
    twins = facts[facts["bits"] <= _TWIN][score].dropna()
    others = facts[facts["bits"] > _TWIN][score].dropna()
    line = f"{len(twins)} of {len(twins) + len(others)} images have one in training whose hash differs in at most "
    line += f"{_TWIN} of 64 bits"
    if not len(twins) or not len(others):
        return f"{line} (the nearest: {facts['bits'].min():.0f})."
    return f"{line}: mean {score} {twins.mean():.4f}, of the others {others.mean():.4f}."


def training_sizes(dataset: Dataset, result: Result) -> pd.Series | None:
    """Returns the number of training examples by size of their raw images; None where they are not known."""
    keys = training_keys(result, dataset)
    return _raw_sizes(dataset)[keys].value_counts() if keys else None


def _check(result: Result, dataset: Dataset) -> None:
    if dataset.info is None:
        raise ValueError(
            f"{dataset.folder}: expected finished records, found a plan alone; run `python -m preprocess` to the end"
        )
    judged = result.files.evaluated.get("records", {}).get("fingerprint", dataset.info.fingerprint)
    if judged != dataset.info.fingerprint:
        raise ValueError(
            f"{dataset.folder}: expected the records on which {result.name} was judged, "
            f"{result.files.evaluated['records'].get('name')}, found others; set RECORDS to their folder"
        )


def _sample(known: pd.DataFrame) -> pd.DataFrame:
    return known if len(known) <= _MOST_TRAINING else known.sample(_MOST_TRAINING, random_state=0)


def _with_hashes(dataset: Dataset) -> pd.DataFrame:
    """Returns image, slice_index, cluster and hash of the examples that have one, by key."""
    hashes = dataset.index.drop_duplicates(_PLACE).rename(columns={"perceptual_hash": "hash"})
    columns = ["key", "cluster", *_PLACE]
    examples = dataset.examples[columns].merge(hashes[[*_PLACE, "hash"]], on=_PLACE, how="left")
    return examples.dropna(subset="hash").set_index("key")


def _bits(hashes: Iterable[str]) -> np.ndarray:
    data = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 8)
    return np.unpackbits(data, axis=1).astype(np.float32) * 2 - 1


def _raw_sizes(dataset: Dataset) -> pd.Series:
    examples = dataset.examples.set_index("key")
    return examples["height"].astype(str) + " × " + examples["width"].astype(str)
