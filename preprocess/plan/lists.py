"""Lists that the user brings and that say who is in: the split of each image, or a sample submission and its order."""

from pathlib import Path

import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig
from preprocess.csv_table import parse_csv
from preprocess.plan.balance import drop
from preprocess.plan.split import split_names

NAMED_AT_ONCE = 3


def read_key_list(path: str | None) -> pd.DataFrame | None:
    """Returns the columns key and split of a CSV file, as text; None without a path.

    Raises:
      ValueError: the file cannot be read, or lacks a column.
    """
    if path is None:
        return None
    table = _read_csv(path, "splits.keys")
    if missing := {"key", "split"} - set(table.columns):
        raise ValueError(
            f"splits.keys: {path}: expected the columns key and split, found {', '.join(table.columns)} "
            f"without {' and '.join(sorted(missing))}"
        )
    return table[["key", "split"]]


def read_sample(path: str | None) -> list[str] | None:
    """Returns the images of a sample submission, each once, in its order; None without a path.

    They stand in the first column; in a column Image_Label, as the clouds' has it, before the last underscore.

    Raises:
      ValueError: the file cannot be read, or is empty.
    """
    if path is None:
        return None
    table = _read_csv(path, "sample")
    names = table.iloc[:, 0]
    if table.columns[0] == "Image_Label":
        names = names.str.rpartition("_")[0]
    if names.empty:
        raise ValueError(f"sample: {path}: expected a row for each image, found none")
    return list(dict.fromkeys(names))


def follow_keys(plan: pd.DataFrame, keys: pd.DataFrame, config: PreprocessConfig) -> None:
    """Replaces the raw directories' splits by those of the list; drops what it does not name.

    Args:
      plan: gets the column split.
      keys: columns key (a key, a group, or the file name of an image with or without its extension) and split (train,
        val, test; with folds test or the fold's number).
      config: says how many folds there are.

    Raises:
      ValueError: an entry names no image or no split, or two of them contradict each other.
    """
    entries = pd.DataFrame({name: keys[name].astype("str").str.strip() for name in ("key", "split")})
    names = split_names(config)
    allowed = {name.removeprefix("fold"): code for code, name in enumerate(names)}
    strange = entries[~entries["split"].isin(list(allowed))]
    if len(strange):
        expected = f"test, or 0 to {config.splits.folds - 1}" if config.splits.folds else "train, val or test"
        raise ValueError(
            f"splits.keys: expected the split {expected}, found {_some(strange['split'].drop_duplicates())} "
            f"(for {strange['key'].iloc[0]!r})"
        )
    entries = entries.drop_duplicates(ignore_index=True)
    twice = entries["key"][entries["key"].duplicated()]
    if len(twice):
        raise ValueError(f"splits.keys: expected one split for each key, found several for {_some(twice)}")

    codes = entries["split"].map(allowed).to_numpy()
    listed = np.full(len(plan), -1)
    unused = np.ones(len(entries), bool)
    for found in _matches(plan, entries["key"], ["group"]):
        rows = np.flatnonzero(found >= 0)
        unused[found[rows]] = False
        torn = rows[(listed[rows] >= 0) & (listed[rows] != codes[found[rows]])]
        if len(torn):
            raise ValueError(
                f"splits.keys: expected one split for {plan['key'].iloc[torn[0]]!r}, found {names[listed[torn[0]]]} "
                f"and, by the entry {entries['key'].iloc[found[torn[0]]]!r}, {names[codes[found[torn[0]]]]}"
            )
        listed[rows] = codes[found[rows]]
    if unused.any():
        raise ValueError(
            f"splits.keys: expected keys, groups or file names of images, found {_some(entries['key'][unused])}, "
            f"which name none ({unused.sum()} of {len(entries)} entries)"
        )
    plan["split"] = pd.Series(np.array([*names, None], object)[listed], plan.index, dtype="str")
    drop(plan, (plan["status"] == "in").to_numpy() & (listed < 0), "not in the list of splits")


def follow_sample(plan: pd.DataFrame, sample: list[str]) -> np.ndarray:
    """Drops images that the sample submission does not name; returns each row's place in it, int64, -1 for no place.

    Raises:
      ValueError: an id names no image, or several.
    """
    ids = pd.Series(sample, dtype="str").drop_duplicates(ignore_index=True)
    place = np.full(len(plan), -1)
    for found in _matches(plan, ids, []):
        place = np.where(place < 0, found, place)
    missing = np.setdiff1d(np.arange(len(ids)), place)
    if len(missing):
        raise ValueError(
            f"sample: expected an image for every id, found none for {_some(ids.iloc[missing])} "
            f"({len(missing)} of {len(ids)} ids)"
        )
    images = pd.DataFrame({"place": place, "image": plan["image"]})[place >= 0].drop_duplicates()
    twice = images["place"][images["place"].duplicated()]
    if len(twice):
        of_one = images["image"][images["place"] == twice.iloc[0]]
        raise ValueError(f"sample: expected one image named {ids[twice.iloc[0]]!r}, found {_some(of_one)}")
    drop(plan, (plan["status"] == "in").to_numpy() & (place < 0), "not in the sample submission")
    return place


def _matches(plan: pd.DataFrame, names: pd.Series, columns: list[str]) -> list[np.ndarray]:
    """Returns for each row the position of its name in a list, -1 for none: by its key, by each of the columns, by the
    image's file name and by that without extension.
    """
    index = pd.Index(names)
    file_name = plan["image"].str.replace(r"^.*/", "", regex=True)
    stem = file_name.str.replace(r"(\.nii)?\.[^.]*$", "", regex=True)
    return [index.get_indexer(values) for values in (plan["key"], *(plan[name] for name in columns), file_name, stem)]


def _some(names: pd.Series) -> str:
    shown = ", ".join(repr(name) for name in names.iloc[:NAMED_AT_ONCE])
    return f"{shown}, …" if len(names) > NAMED_AT_ONCE else shown


def _read_csv(path: str, setting: str) -> pd.DataFrame:
    try:
        return parse_csv(Path(path).read_bytes(), path)
    except OSError as error:
        raise ValueError(f"{setting}: {path}: expected a CSV file: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error
