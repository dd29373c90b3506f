"""Tiles: the rows of images become rows of the windows that cover them."""

import itertools

import numpy as np
import pandas as pd

from imaging.tiling import tile_windows

CROP = ("crop_y", "crop_x", "crop_height", "crop_width")


def cut_tiles(plan: pd.DataFrame, size: int, overlap: int) -> pd.DataFrame:
    """Returns the plan with a row for each tile of what is in, side by side and row by row, in the order of the images.

    A tile's key is its image's, /y, x and its corner; its objects are unknown, its foreground is the image's
    tile_foreground. What is out keeps its one row, without a crop.
    """
    rows = np.flatnonzero(plan["status"] == "in")
    height, width = (plan[side].iloc[rows].to_numpy(np.int64) for side in ("height", "width"))
    # Few sizes differ: the windows of each are listed once, one list behind the other.
    different, kind = np.unique(height << 32 | width, return_inverse=True)
    lists = [np.array(tile_windows(int(both >> 32), int(both & 0xFFFFFFFF), size, overlap)) for both in different]
    lengths = np.array([len(windows) for windows in lists], np.int64)
    windows = pd.DataFrame(np.concatenate([np.empty((0, 4), np.int64), *lists]), columns=list(CROP), dtype="Int64")
    suffixes = pd.Series([f"/y{y:05d}x{x:05d}" for y, x in zip(windows["crop_y"], windows["crop_x"], strict=True)])

    counts = np.ones(len(plan), np.int64)
    counts[rows] = lengths[kind]
    begins = np.zeros(len(plan), np.int64)
    begins[rows] = (lengths.cumsum() - lengths)[kind]
    source = np.repeat(np.arange(len(plan)), counts)
    window = np.arange(len(source)) - (counts.cumsum() - counts)[source] + begins[source]
    is_tile = np.zeros(len(plan), bool)
    is_tile[rows] = True
    is_tile = is_tile[source]

    tiles = plan.drop(columns="tile_foreground", errors="ignore").take(source).reset_index(drop=True)
    at_tiles = np.flatnonzero(is_tile)
    taken = windows.take(window[at_tiles]).set_index(at_tiles)
    for column in CROP:
        tiles[column] = taken[column].reindex(tiles.index)
    names = suffixes.astype("str").take(window[at_tiles]).set_axis(at_tiles).reindex(tiles.index, fill_value="")
    tiles["key"] = tiles["key"] + names
    tiles["objects"] = tiles["objects"].mask(is_tile)
    tiles["foreground"] = tiles["foreground"].mask(is_tile)
    if "tile_foreground" in plan:
        tiles.loc[at_tiles, "foreground"] = _foreground(plan["tile_foreground"].iloc[rows], counts[rows])
    return tiles


def _foreground(lists: pd.Series, counts: np.ndarray) -> pd.arrays.IntegerArray:
    """Returns the numbers of all tiles, one image behind the other; NA where an image has None."""
    known = lists.notna().to_numpy()
    lengths = np.array([len(values) for values in lists[known]], np.int64)
    assert np.array_equal(lengths, counts[known]), "tile_foreground was made for other tiles"
    is_known = np.repeat(known, counts)
    values = np.zeros(len(is_known), np.int64)
    values[is_known] = np.fromiter(itertools.chain.from_iterable(lists[known]), np.int64, lengths.sum())
    return pd.arrays.IntegerArray(values, ~is_known)
