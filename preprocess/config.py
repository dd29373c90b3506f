"""Settings of preprocess."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Splits:
    """Shares of the examples; they add up to 1."""

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self):
        shares = dataclasses.asdict(self)
        if not (min(shares.values()) >= 0 and abs(sum(shares.values()) - 1) <= 1e-6):  # so that nan fails
            raise ValueError(f"splits: expected shares that are not negative and add up to 1, found {shares}")


@dataclass(frozen=True)
class FolderLayout:
    """How the `folder` layout finds a mask for each image."""

    images_dir: str = "images"
    """Name of the directory with the images; train/, val/ and test/ may lie above or beneath it."""
    masks_dir: str = "masks"
    """Name of the directory with the masks."""
    image_suffix: str = ""
    """What an image's name has behind the common stem, such as _sat."""
    mask_suffix: str = ""
    """What a mask's name has behind the common stem, such as _mask."""


@dataclass(frozen=True)
class PreprocessConfig:
    """Everything that decides how raw data become records."""

    size: int | None = 256
    """Height and width of every example in pixels (images are stretched to a square); null keeps native sizes."""
    splits: Splits = field(default_factory=Splits)
    """Shares of the splits; directories named train, val and test in the raw data come before them."""
    seed: int = 0
    """Salt of the hashes that decide split and order."""
    classes: list[str] | None = None
    """Class names in the order of their mask values, the first for value 0, e.g. '[background,nucleus]'.
    Null: masks are binary."""
    group_by: str | None = None
    """Regular expression on the key; examples with the same match (its first group, if it has one) are never
    divided between splits. Null: every example is its own group."""
    unlabeled: bool = False
    """Read no masks: every image becomes an example without one, all in the split test."""
    max_rejects: float = 0.01
    """Share of bad raw items above which nothing is committed."""
    name: str | None = None
    """Name of the dataset, first part of the shards' file names; null: the layout's."""
    workers: int = 2
    """Processes of the local runner."""
    beam: str = ""
    """Apache Beam's own options, in one string behind an equals sign, e.g.
    --beam='--runner=apache_beam.runners.dask.dask_runner.DaskRunner'; --workers then has no effect."""
    plan_only: bool = False
    """Stop after index and plan: plan.parquet says what would be written."""
    overwrite: bool = False
    """Replace the records of another dataset or configuration in the output folder."""
    folder: FolderLayout = field(default_factory=FolderLayout)
    """Pairing of images and masks, for the folder layout."""

    def __post_init__(self):
        if self.size is not None and self.size < 1:
            raise ValueError(f"size: expected a number of pixels of at least 1, or null, found {self.size}")
        if self.workers < 1:
            raise ValueError(f"workers: expected at least 1, found {self.workers}")
        if not 0 <= self.max_rejects <= 1:
            raise ValueError(f"max_rejects: expected a share between 0 and 1, found {self.max_rejects}")
        if self.classes is not None and not 2 <= len(set(self.classes)) == len(self.classes) <= 255:
            raise ValueError(f"classes: expected 2 to 255 different names, found {self.classes}")
        if self.plan_only and self.overwrite:
            raise ValueError("plan_only, overwrite: choose one; a plan alone replaces nothing")
        if self.name is not None and not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(
                f"name: expected small letters, digits and _, beginning with a letter, found {self.name!r}"
            )
        if self.group_by is not None:
            try:
                re.compile(self.group_by)
            except re.error as error:
                raise ValueError(f"group_by: {self.group_by!r} is no regular expression: {error}") from error

    def content(self, layout: str) -> dict[str, Any]:
        """Returns the settings that decide the bytes of the records, and nothing else."""
        elsewhere = {"workers", "beam", "plan_only", "overwrite", "max_rejects"}
        config = {key: value for key, value in dataclasses.asdict(self).items() if key not in elsewhere}
        if layout != "folder":
            del config["folder"]
        return {"layout": layout, **config, "name": self.name or layout}
