"""Lists of images that the user brings: which split each belongs to, and the order of a sample submission."""

from pathlib import Path

import pandas as pd


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


def _read_csv(path: str, setting: str) -> pd.DataFrame:
    try:
        return pd.read_csv(Path(path), dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{setting}: {path}: expected a CSV file: {error}") from error
