"""The raw images that the records of a split were made from, where in them each record lies, and the way back."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from evaluation.examples import read_plan
from imaging.restore import Restored
from imaging.tiling import Window, count_tiles
from inference.postprocess import Postprocess, stretch
from inference.predictor import Batch, Predictor
from records.info import RecordsInfo

_CROP = ["crop_y", "crop_x", "crop_height", "crop_width"]


class Place(NamedTuple):
    """Where a record lies: the raw image's key and name, the window in it, the raw image's size in pixels."""

    source: str
    image: str
    window: Window
    height: int
    width: int


class RawImages(NamedTuple):
    """Raw images of a split.

    names: of all of them, in the order of the records; of unlabelled records those that were found to be damaged at
    first sight follow at the end. places: of the records, by key.
    """

    names: list[str]
    places: dict[str, Place]


class RawJoiner:
    """Puts what is predicted for records together to whole raw images; the records of an image follow one another."""

    def __init__(self, predictor: Predictor, images: RawImages, take: Callable[[Place, np.ndarray, Postprocess], None]):
        """Takes the predictor, the raw images, and what takes each.

        That is a place in it, its mask [height, width] of its own size, and the steps that made it.
        """
        self._predictor, self._images, self._take = predictor, images, take
        self._restored: Restored | None = None
        self._place: Place | None = None
        self._stretched = 1.0

    def add(self, batch: Batch) -> None:
        """Takes a batch as `Predictor.probabilities` yields it."""
        for key, probabilities in zip(batch["source_id"], batch["probabilities"], strict=True):
            place = self._images.places[key.decode()]
            if self._place is None or place.source != self._place.source:
                self.finish()
                self._restored = Restored(place.height, place.width, probabilities.shape[-1])
                self._place = place
            self._restored.add(probabilities, place.window)
            rows, columns, _ = probabilities.shape
            self._stretched = place.window.height * place.window.width / (rows * columns)

    def finish(self) -> None:
        """Hands over the last image."""
        if self._place is not None:
            postprocess = stretch(self._predictor.postprocess, self._stretched)
            found = self._predictor.decide({"probabilities": [self._restored.finish()]}, postprocess=postprocess)
            self._take(self._place, found["prediction"][0], postprocess)
        self._place = None


def read_raw_images(records: str, info: RecordsInfo, split: str, extension: bool | None, why: str) -> RawImages:
    """Returns the raw images of a split, from the plan beside the records.

    Args:
      records: their folder.
      info: of the records.
      split: its name.
      extension: whether images are called by their file names, else by their keys, without directories both. None: by
        their keys with directories.
      why: the setting that needs them, for errors.

    Raises:
      ValueError: the plan cannot be read, two images have one name, or records do not cover their images.
    """
    plan = read_plan(records, ["key", "status", "split", "image", *_CROP, "height", "width"], f"--{why}")
    is_in = (plan["status"] == "in") & (plan["split"] == split)
    # Without masks all is in one split, what is bad would be too.
    is_bad = (plan["status"] == "rejected") & plan["image"].notna() & (not info.labeled)
    rows = pd.concat([plan[is_in], plan[is_bad]], ignore_index=True)
    is_tile = rows["crop_y"].notna()
    rows["source"] = rows["key"].mask(is_tile, rows["key"].str.replace(r"/y\d+x\d+$", "", regex=True))
    rows["name"] = rows["source"]
    if extension is not None:
        rows["name"] = rows["image" if extension else "source"].str.rpartition("/")[2]
    images = rows.drop_duplicates("source")
    twice = images[images["name"].duplicated()]
    if len(twice):
        name = twice["name"].iloc[0]
        of_one = " and ".join(map(repr, images.loc[images["name"] == name, "source"]))
        raise ValueError(
            f"{why}: expected images of different names, found {name!r} for {of_one}; rename one, or choose a "
            "split that has one of them"
        )
    if is_tile.any():
        _check_covered(rows[is_tile], info, why)
    for axis, side in (("y", 0), ("x", 0), ("height", rows["height"]), ("width", rows["width"])):
        rows[f"crop_{axis}"] = rows[f"crop_{axis}"].fillna(side)
    found = rows[: is_in.sum()]
    windows = found[_CROP].itertuples(index=False, name=None)
    columns = (found[name] for name in ("key", "source", "name", "height", "width"))
    places = {
        key: Place(source, name, Window(*map(int, window)), int(height), int(width))
        for window, key, source, name, height, width in zip(windows, *columns, strict=True)
    }
    return RawImages(images["name"].tolist(), places)


def _check_covered(tiles: pd.DataFrame, info: RecordsInfo, why: str) -> None:
    """Raises ValueError where tiles were left out, so that an image cannot be put together."""
    groups = tiles.groupby("source", sort=False)
    images = groups[["height", "width"]].first()
    expected = count_tiles(
        images["height"].to_numpy(), images["width"].to_numpy(), info.config["size"], info.config["tile_overlap"]
    )
    lacking = groups.size() != expected
    if lacking.any():
        raise ValueError(
            f"{why}: expected all tiles of every image, found {lacking.sum()} images that lack some, such as "
            f"{lacking.idxmax()!r}; preprocess without --drop_empty and --max_empty"
        )
