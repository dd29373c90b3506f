"""What is known of the judged images: beside each one's scores, what its pixels, index and plan say."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from evaluation.analysis.results import Result
from evaluation.analysis.training_images import (
    compare_training,
    hash_distances,
    raw_sizes,
    training_facts,
    training_keys,
)
from evaluation.exploration.dataset import Dataset, ExamplePixels, read_examples
from evaluation.exploration.measures import brightness_unit, example_facts, measure_examples


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
      most: of more images so many are opened, chosen at random; of training images likewise, where the index knows
        neither brightness nor contrast.
      seed: of the choice.

    Returns:
      The columns of per_image.csv; split, cluster; the measures of `MEASURES`; size (height x width of the raw image);
      nearest and bits, see `training_images`. What is not known is NaN.

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
    facts["size"] = raw_sizes(dataset).reindex(keys)
    training = training_keys(result, dataset)
    alike = compare_training(facts, training_facts(dataset, training, most, seed))
    facts = facts.join(alike).join(hash_distances(dataset, keys, training))
    return images.loc[keys].join(facts.drop(columns=["group", "areas"]))


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
