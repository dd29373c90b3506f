"""Settings of preprocess."""

import dataclasses
import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Splits:
    """Who is trained on and who judges. The shares add up to 1."""

    train: float = 0.8
    """Share of the examples."""
    val: float = 0.1
    """Share of the examples."""
    test: float = 0.1
    """Share of the examples."""
    folds: int | None = None
    """Divide train and val together into so many folds of equal size for cross-validation; test stays apart.
    train.py --input.fold 2 then validates on fold 2 and trains on the others."""
    stratify: bool = False
    """Give every split the same mix of object counts (0, 1, 2-3, 4-7, ...)."""
    keys: str | None = None
    """CSV file with the columns key and split (train, val, test; a number with --splits.folds): exactly these
    examples. A key may also be a group, such as a patient."""

    def __post_init__(self):
        shares = {"train": self.train, "val": self.val, "test": self.test}
        if not (min(shares.values()) >= 0 and abs(sum(shares.values()) - 1) <= 1e-6):  # so that nan fails
            raise ValueError(f"splits: expected shares that are not negative and add up to 1, found {shares}")
        if self.folds is not None and not 2 <= self.folds <= 100:
            raise ValueError(f"splits.folds: expected 2 to 100, or null, found {self.folds}")
        if self.keys and self.stratify:
            raise ValueError("splits.keys, splits.stratify: choose one; a list of keys leaves nothing to stratify")


@dataclass(frozen=True)
class FolderLayout:
    """How the `folder` layout reads masks."""

    images_dir: str = "images"
    """Name of the directory with the images; train/, val/ and test/ may lie above or beneath it."""
    masks_dir: str = "masks"
    """Name of the directory with the masks."""
    image_suffix: str = ""
    """What an image's name has behind the common stem, such as _sat."""
    mask_suffix: str = ""
    """What a mask's name has behind the common stem, such as _mask."""
    colors: str | None = None
    """CSV file with the columns name, r, g, b: masks are pictures in these colours, the classes those names, in the
    file's order. It may lie in the raw dataset."""
    ignore: list[int | str] = field(default_factory=list)
    """Mask values, or names of colours, that say that nothing is known there, such as '[11]' or '[Void]'."""
    invert: bool = False
    """Binary masks are 0 where the object is."""


@dataclass(frozen=True)
class CtLayout:
    """How the `ct` layout finds a mask for each scan."""

    mask: str | None = None
    """Column of metadata.csv, or directory, that holds the masks, such as lung_mask. Null: the only one there is."""
    labels: dict[str, list[int]] | None = None
    """Classes by name, each with its mask values, such as '{liver: [5], lung: [10, 11, 12, 13, 14]}'; all other values
    are background. Null: --classes, or what the masks' name tells."""

    def __post_init__(self):
        values = [value for group in (self.labels or {}).values() for value in group]
        if self.labels is not None and not (
            values and len(set(values)) == len(values) and set(values) <= {*range(256)}
        ):
            raise ValueError(f"ct.labels: expected mask values from 0 to 255, each once, found {self.labels}")


@dataclass(frozen=True)
class CocoLayout:
    """How the `coco` layout finds annotations."""

    annotations: str | None = None
    """Annotation file, relative to RAW, such as annotations/instances_train2017.json. Null: the only JSON there is."""


_OF_ONE_LAYOUT = ("folder", "ct", "coco")
_NOT_CONTENT = {"workers", "beam", "plan_only", "overwrite", "max_rejects", "sample"}


@dataclass(frozen=True)
class PreprocessConfig:
    """Everything that decides how raw data become records."""

    size: int | None = 256
    """Height and width of every example in pixels; images are stretched to it. Null keeps native sizes."""
    tile: bool = False
    """Cut images into size x size windows of their own pixels instead of stretching them; the tiles of one image
    stay in one split."""
    tile_overlap: int = 0
    """Pixels that neighbouring tiles share, at least."""
    splits: Splits = field(default_factory=Splits)
    """Shares, folds or lists; directories named train, val and test in the raw data come before shares."""
    seed: int = 0
    """Salt of the hashes that decide split, order and what quotas choose."""
    classes: list[str] | None = None
    """Class names in the order of their mask values, the first for value 0, e.g. '[background,nucleus]'; for clouds
    and coco, the ones to keep. Null: the layout's."""
    overlap: Literal["bits", "exclusive"] | None = None
    """Classes that overlap: as bit field (at most 15 classes), or one class a pixel, the later one winning. Null: bits
    for clouds, exclusive for coco."""
    group_by: str | None = None
    """Regular expression on the key; examples with the same match (its first group, if it has one) are never
    divided between splits. Null: every image, or every scan of a CT dataset, is its own group."""
    near_duplicates: int | None = 3
    """Images whose 64-bit perceptual hashes differ in at most so many bits are never divided between splits. Null:
    only equal files count."""
    quota: str | None = None
    """Numbers of examples by numbers of objects: "0:500,1-7:1500,8+:100" takes 500 empty ones, 1500 of each count
    from 1 to 7, 100 with 8 objects or more, and nothing else."""
    drop_empty: bool = False
    """Leave out examples without any annotated pixel."""
    max_empty: float | None = None
    """Highest share of empty examples; the rest of them is left out."""
    drop_outliers: list[Literal["blank", "uniform", "clipped"]] = field(default_factory=list)
    """Leave out images that are flagged: blank (one value), uniform (hardly any contrast), clipped
    (overexposed: more than half of the pixels at the highest value)."""
    intensity: Literal["none", "stretch", "equalize", "clahe"] = "none"
    """Contrast stretching (1st to 99th percentile), histogram equalisation or CLAHE of every image."""
    coding: Literal["keep", "png", "jpeg", "raw"] = "keep"
    """Of images: keep a JPEG that needs no change and make PNGs of the rest; or all PNG, JPEG or raw pixels."""
    jpeg_quality: int = 95
    """Of --coding jpeg, 1 to 100."""
    unlabeled: bool = False
    """Read no masks: every unlabelled image becomes an example without one, all in the split test."""
    sample: str | None = None
    """CSV file, a sample submission: with --unlabeled, its images in its order."""
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
    """For the folder layout."""
    ct: CtLayout = field(default_factory=CtLayout)
    """For the ct layout."""
    coco: CocoLayout = field(default_factory=CocoLayout)
    """For the coco layout."""

    def __post_init__(self):
        if self.size is not None and self.size < 1:
            raise ValueError(f"size: expected a number of pixels of at least 1, or null, found {self.size}")
        if self.size is not None and self.size > 16384:
            raise ValueError(f"size: expected at most 16384 pixels, found {self.size}; --tile cuts larger images")
        if self.workers < 1:
            raise ValueError(f"workers: expected at least 1, found {self.workers}")
        for name in ("max_rejects", "max_empty"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}: expected a share between 0 and 1, found {share}")
        names = self.classes
        if names is not None and not (all(names) and 1 <= len(set(names)) == len(names) <= 255):
            raise ValueError(f"classes: expected 1 to 255 different names, found {names}")
        if self.plan_only and self.overwrite:
            raise ValueError("plan_only, overwrite: choose one; a plan alone replaces nothing")
        if self.near_duplicates is not None and not 0 <= self.near_duplicates <= 8:
            raise ValueError(f"near_duplicates: expected 0 to 8 bits, or null, found {self.near_duplicates}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality: expected 1 to 100, found {self.jpeg_quality}")
        if self.name is not None and not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(
                f"name: expected small letters, digits and _, beginning with a letter, found {self.name!r}"
            )
        if self.group_by is not None:
            try:
                re.compile(self.group_by)
            except re.error as error:
                raise ValueError(f"group_by: {self.group_by!r} is no regular expression: {error}") from error
        self._check_tiles()
        self._check_choices()

    def _check_tiles(self) -> None:
        if self.tile and self.size is None:
            raise ValueError("tile: expected the tiles' --size, found null")
        if self.tile_overlap and not self.tile:
            raise ValueError(f"tile_overlap: expected --tile with it, found {self.tile_overlap} without")
        if self.tile and not 0 <= self.tile_overlap < self.size:
            raise ValueError(f"tile_overlap: expected 0 to {self.size - 1} (below --size), found {self.tile_overlap}")

    def _check_choices(self) -> None:
        parse_quota(self.quota)
        if self.classes is not None and self.ct.labels is not None:
            raise ValueError("classes, ct.labels: choose one; both name the classes")
        if sum([self.quota is not None, self.drop_empty, self.max_empty is not None]) > 1:
            raise ValueError("quota, drop_empty, max_empty: choose one; each says how many empty examples stay")
        if self.unlabeled:
            needs_masks = {"quota": self.quota, "drop_empty": self.drop_empty, "max_empty": self.max_empty}
            needs_masks |= {"splits.folds": self.splits.folds, "splits.keys": self.splits.keys}
            needs_masks |= {"splits.stratify": self.splits.stratify}
            for name, value in needs_masks.items():
                if value not in (None, False):
                    raise ValueError(f"unlabeled, {name}: choose one; without masks everything is in the split test")
        elif self.sample is not None:
            raise ValueError("sample: expected --unlabeled with it: it orders images that have no masks")

    def check_layout(self, layout: str) -> None:
        """Raises ValueError if there are settings of another layout: they would do nothing."""
        for other in _OF_ONE_LAYOUT:
            if other != layout and getattr(self, other) != type(getattr(self, other))():
                raise ValueError(
                    f"{other}: found settings of the layout {other}, but the layout is {layout}; leave them out"
                )

    @property
    def needs_foreground(self) -> bool:
        """Whether a choice asks which examples are empty, so that the index has to look into masks."""
        return self.drop_empty or self.max_empty is not None

    @property
    def needs_objects(self) -> bool:
        """Whether a choice asks how many objects an example has."""
        return self.quota is not None or self.splits.stratify

    def content(self, layout: str) -> dict[str, Any]:
        """Returns the settings that decide the bytes of the records, and nothing else.

        Where a list lies changes nothing: what it says stands in the plan, or in the source's `file_settings`.
        """
        left_out = _NOT_CONTENT | {name for name in _OF_ONE_LAYOUT if name != layout}
        config = {key: value for key, value in dataclasses.asdict(self).items() if key not in left_out}
        del config["splits"]["keys"]
        if self.coding != "jpeg":
            del config["jpeg_quality"]
        if layout == "folder":
            del config["folder"]["colors"]
        return {"layout": layout, **config, "name": self.name or layout}


def parse_quota(quota: str | None) -> list[tuple[int, int | None, int]]:
    """Returns (fewest objects, most objects or None for no limit, number of examples) of each group of a quota.

    "0:500,1-2:1500,8+:100" gives (0, 0, 500), (1, 1, 1500), (2, 2, 1500), (8, None, 100).

    Raises:
      ValueError: the text is no quota, or names a count twice.
    """
    groups: list[tuple[int, int | None, int]] = []
    for part in quota.split(",") if quota is not None else []:
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6})|(\+))?\s*:\s*(\d{1,12})\s*", part, re.ASCII)
        if not match:
            raise ValueError(f'quota: expected parts such as "0:500", "1-7:1500" or "8+:100", found {part!r}')
        low, number = int(match[1]), int(match[4])
        high = int(match[2] or low)
        if high < low or high - low > 1000:
            raise ValueError(f"quota: expected a range of at most 1000 counts, the lower first, found {part!r}")
        groups += [(low, None, number)] if match[3] else [(count, count, number) for count in range(low, high + 1)]
    ordered = sorted(groups, key=lambda group: group[0])
    for (_, high, _), (following, _, _) in itertools.pairwise(ordered):
        if high is None or following <= high:
            raise ValueError(f"quota: {following} objects are named twice in {quota!r}")
    return groups
