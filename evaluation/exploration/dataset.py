"""A records folder, or only the plan of one, opened to be looked at."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from imaging.codec import decode_mask
from records.files import file_size, join, open_file
from records.info import INFO_FILE, RecordsInfo, read_info
from records.schema import decode, decode_pixels
from records.shards import OFFSETS_FILE, read_record

_SPLITS = ("train", "val", "test")


class ExamplePixels(NamedTuple):
    """One example as arrays.

    image: uint8 or uint16 [height, width, 1 or 3], stored values.
    mask: uint8 class indices or, where classes overlap, uint16 bit fields [height, width]; None where unlabelled.
    instances: uint16 [height, width], 0 = none, or None.
    objects: number of annotated objects, or None where not known.
    """

    key: str
    image: np.ndarray
    mask: np.ndarray | None
    instances: np.ndarray | None
    objects: int | None


@dataclass(frozen=True)
class Dataset:
    """What the files of a records folder say.

    Attributes:
      folder: where they are.
      info: None where the folder holds only a plan, or records that are not finished.
      index, plan: the tables; in `plan`, what was found to be bad on writing is "rejected" too.
      offsets: where each record lies (columns split, shard, position, offset), by key; empty without records.
    """

    folder: str
    info: RecordsInfo | None
    index: pd.DataFrame
    plan: pd.DataFrame
    offsets: pd.DataFrame

    @functools.cached_property
    def examples(self) -> pd.DataFrame:
        """The rows of the plan that are in."""
        return self.plan[self.plan["status"] == "in"]

    @functools.cached_property
    def splits(self) -> list[str]:
        """Names of the splits that have examples: train, val and test, or fold0, fold1, ... and test."""
        folds = sorted((name for name in self.examples["split"].unique() if name not in _SPLITS), key=_fold_number)
        return [name for name in ("train", *folds, "val", "test") if (self.examples["split"] == name).any()]

    def summary(self) -> str:
        """Returns a line on what this is."""
        size = f"{self.folder}: {len(self.examples):,} examples of {self.examples['image'].nunique():,} files"
        if self.info is None:
            return f"{size}, as planned; no finished records here, so no pictures and no pixels"
        labels = f"classes {', '.join(self.info.classes)}" if self.info.labeled else "unlabelled"
        stored = "native sizes" if self.info.height is None else f"stored at {self.info.height} x {self.info.width}"
        return f"{size}, {stored} pixels, {labels}{', which may overlap' if self.info.overlapping else ''}"


def read_dataset(folder: str) -> Dataset:
    """Returns a records folder, or the plan that `python -m preprocess --plan_only` left.

    Raises:
      ValueError: there is no plan, or the records are damaged.
    """
    if file_size(join(folder, "plan.parquet")) is None:
        raise ValueError(
            f"{folder}: expected records or a plan, found no plan.parquet; run `python -m preprocess`, "
            "or set RECORDS to the folder that it wrote"
        )
    finished = file_size(join(folder, INFO_FILE)) is not None
    index, plan = (_read_table(folder, f"{name}.parquet") for name in ("index", "plan"))
    if not finished:
        return Dataset(folder, None, index, plan, pd.DataFrame(columns=["split", "shard", "position", "offset"]))
    with open_file(join(folder, "rejected.csv")) as file:
        rejected = pd.read_csv(file, dtype=str, keep_default_na=False).drop_duplicates("key").set_index("key")
    late = (plan["status"] == "in") & plan["key"].isin(rejected.index)
    plan["reason"] = plan["reason"].mask(late, plan["key"].map(rejected["reason"]))
    plan["status"] = plan["status"].mask(late, "rejected")
    return Dataset(folder, read_info(folder), index, plan, _read_table(folder, OFFSETS_FILE).set_index("key"))


def sample_keys(dataset: Dataset, per_split: int, seed: int = 0) -> list[str]:
    """Returns the keys of at most so many records of each split, the same for the same seed."""
    generator = np.random.default_rng(seed)
    keys: list[str] = []
    for split in dataset.splits if dataset.info else []:
        rows = dataset.offsets.index[dataset.offsets["split"] == split]
        keys += rows[np.sort(generator.choice(len(rows), min(per_split, len(rows)), replace=False))].tolist()
    return keys


def read_examples(dataset: Dataset, keys: Iterable[str]) -> Iterator[ExamplePixels]:
    """Yields the examples of these keys, one at a time."""
    for key in keys:
        place = dataset.offsets.loc[key]
        record = decode(read_record(join(dataset.folder, place["shard"]), int(place["offset"])))
        yield ExamplePixels(
            key=key,
            image=decode_pixels(record, dataset.info.dtype),
            mask=None if record.mask is None else decode_mask(record.mask),
            instances=None if record.instances is None else decode_mask(record.instances),
            objects=record.objects,
        )


def _read_table(folder: str, name: str) -> pd.DataFrame:
    with open_file(join(folder, name)) as file:
        return pd.read_parquet(file)


def _fold_number(name: str) -> int:
    return int(name.removeprefix("fold"))
