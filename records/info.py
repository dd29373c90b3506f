"""info.json: what a records folder holds.

It is written last. A folder without it is unfinished, and `read_info` says so; every reader begins here.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records.files import file_size, join, open_file
from records.shards import Shard, ShardFile

INFO_FILE = "info.json"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class SplitInfo:
    """One split's shards and contents.

    Attributes:
      shard_lengths: number of records of each shard.
      shard_bytes: length of each shard file.
      shard_crc32c: CRC32C of each shard file, eight hex digits.
      class_pixels: pixels of each class, without ignored ones; all zero where unlabelled.
      ignored_pixels: pixels labelled 255 or, where classes overlap, with bit 15.
      class_examples: examples that hold at least one pixel of each class.
      object_counts: how many examples have 0, 1, 2-3, 4-7, ... objects (bin k holds counts of k bits).
      lost_pixels: pixels of object masks hidden beneath other objects.
    """

    shard_lengths: list[int]
    shard_bytes: list[int]
    shard_crc32c: list[str]
    class_pixels: list[int]
    ignored_pixels: int
    class_examples: list[int]
    object_counts: list[int]
    lost_pixels: int

    @property
    def num_examples(self) -> int:
        """Records of all shards."""
        return sum(self.shard_lengths)


def scored_classes(classes: list[str], overlapping: bool) -> list[int]:
    """Returns the indices of the classes that scores are about: all but the background.

    Of two classes the first is the background whatever its name, as the model then has one output. Overlapping classes
    have no background.
    """
    background = not overlapping and (len(classes) == 2 or classes[0] == "background")
    return list(range(int(background), len(classes)))


@dataclass(frozen=True)
class RecordsInfo:
    """Everything a reader needs to know of a records folder.

    Attributes:
      name: of the dataset; the shards' file names begin with it.
      classes: class names; the index of a name is its value in masks, or its bit.
      overlapping: whether masks are bit fields: classes may overlap; there is no background class then, bit k is
        classes[k].
      labeled: whether the records have masks.
      instances: whether they have instance maps.
      height, width: of every image, or None where images differ.
      channels: 1 or 3, of every image.
      dtype: "uint8" or "uint16", of every image's pixels.
      coding: "image" (PNG or JPEG files) or "raw" (pixels), of every image.
      intensity: "offset", "slope" and "unit" ("HU" or "stored value"): value = slope * stored + offset; "transform"
        ("none", "stretch", "equalize" or "clahe"): what was done to the stored pixels.
      mean, std: per channel, of the stored pixels of the training split or of the folds (of all where these are empty).
      splits: by name: train, val and test, or fold0, fold1, ... and test.
      rejected: number of raw items left out because they were bad (see rejected.csv).
      warnings: what was mended on reading raw files, and how many times.
      config: the settings that decide the bytes.
      fingerprint: SHA-256 of config, raw content and order; the same for the same records.
      versions: of what wrote them.
    """

    name: str
    classes: list[str]
    overlapping: bool
    labeled: bool
    instances: bool
    height: int | None
    width: int | None
    channels: int
    dtype: str
    coding: str
    intensity: dict[str, Any]
    mean: list[float]
    std: list[float]
    splits: dict[str, SplitInfo]
    rejected: int
    warnings: dict[str, int]
    config: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    format_version: int = FORMAT_VERSION

    @property
    def scored_classes(self) -> list[int]:
        """Indices of the classes that scores are about, see the function of this name."""
        return scored_classes(self.classes, self.overlapping)

    @property
    def stretched(self) -> bool:
        """Whether images were stretched to one size; else their pixels are those of the raw images."""
        return self.config.get("size") is not None and not self.config.get("tile", False)

    @property
    def folds(self) -> list[str]:
        """Names of the splits that are folds, in order; none where there is a training split instead."""
        return sorted((name for name in self.splits if re.fullmatch(r"fold\d+", name)), key=lambda name: int(name[4:]))

    def stored_window(self, window: tuple[float, float] | None) -> tuple[float, float] | None:
        """Returns the stored pixels that mean the window's values (HU for CT); they need not be whole."""
        if window is None:
            return None
        low, high = ((value - self.intensity["offset"]) / self.intensity["slope"] for value in window)
        return low, high

    def shards(self, split: str) -> list[Shard]:
        """Returns the shards of a split.

        Raises:
          ValueError: there is no such split, or it is empty.
        """
        if split not in self.splits or not self.splits[split].num_examples:
            known = ", ".join(name for name, info in self.splits.items() if info.num_examples)
            raise ValueError(f"expected a split that has examples ({known}), found {split!r}")
        count = len(self.splits[split].shard_lengths)
        return [Shard(self.name, split, index, count) for index in range(count)]

    def shard_files(self, folder: str, splits: Sequence[str]) -> list[ShardFile]:
        """Returns the files of these splits' shards in a folder, in order. Raises ValueError as `shards` does."""
        files = []
        for split in splits:
            shards = self.shards(split)
            lengths, sizes = self.splits[split].shard_lengths, self.splits[split].shard_bytes
            for shard, length, num_bytes in zip(shards, lengths, sizes, strict=True):
                files.append(ShardFile(shard, join(folder, shard.name), length, num_bytes))
        return files

    def stored_crc32c(self, file: ShardFile) -> str:
        """Returns the CRC32C of a shard's file as it was written, eight hex digits."""
        return self.splits[file.shard.split].shard_crc32c[file.shard.index]

    def to_json(self) -> str:
        """Returns the text of info.json."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def read_info(folder: str, check_shards: bool = True) -> RecordsInfo:
    """Returns what info.json says, after checking that the shards it names are there.

    Args:
      folder: of the records.
      check_shards: whether their lengths are checked too; not for those who name or mend the damaged records.

    Raises:
      ValueError: the folder is not a records folder, unfinished, damaged or of another format version.
    """
    path = join(folder, INFO_FILE)
    if "://" not in folder and not Path(folder).is_dir():
        raise ValueError(f"{folder}: expected a folder of records, found no such folder")
    if file_size(path) is None:
        raise ValueError(
            f"{folder}: expected finished records, found no {INFO_FILE}; "
            "run `python -m preprocess` to its end (the same command again continues it)"
        )
    with open_file(path) as file:
        text = file.read()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); preprocess anew") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the info.json of records, found another file; choose another folder")
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: expected format version {FORMAT_VERSION}, found {content.get('format_version')}; preprocess anew"
        )
    try:
        content["splits"] = {name: SplitInfo(**split) for name, split in content["splits"].items()}
        info = RecordsInfo(**content)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error}); preprocess anew") from error
    for split in info.splits:
        if info.splits[split].num_examples:
            for file in info.shard_files(folder, [split]):
                _check_size(file, check_shards)
    return info


def training_splits(info: RecordsInfo, fold: int | None) -> tuple[list[str], str]:
    """Returns (names of the splits to train on, name of the split to validate on).

    Args:
      info: of the records.
      fold: to validate on; None where the records have a training and a validation split.

    Raises:
      ValueError: the records have folds and none is chosen, or the other way round, or there is no such fold.
    """
    folds = info.folds
    if not folds and fold is None:
        return ["train"], "val"
    if not folds:
        raise ValueError(
            f"input.fold: expected records made with folds, found the splits {', '.join(info.splits)}; "
            "leave --input.fold out, or preprocess with --splits.folds"
        )
    if fold is None:
        raise ValueError(
            f"these records have {len(folds)} folds; say which one validates: --input.fold 0 to {len(folds) - 1}"
        )
    validation = f"fold{fold}"
    if validation not in folds:
        raise ValueError(f"input.fold: expected 0 to {len(folds) - 1}, found {fold}; the records have no such fold")
    # Few groups in many folds leave some empty.
    return [name for name in folds if name != validation and info.splits[name].num_examples], validation


def judged_split(info: RecordsInfo, fold: int | None) -> str:
    """Returns the split that a run is judged on: test, or where that holds nothing the one that validated it.

    Args:
      info: of the records.
      fold: that validated it, as in `training_splits`.
    """
    has_test = "test" in info.splits and info.splits["test"].num_examples
    return "test" if has_test else training_splits(info, fold)[1]


def _check_size(file: ShardFile, check_length: bool) -> None:
    found = file_size(file.path)
    if found is None or (check_length and found != file.num_bytes):
        raise ValueError(
            f"{file.path}: expected {file.num_bytes} bytes, found {'no such file' if found is None else found}; "
            "the records are damaged, make them anew with --overwrite"
        )
