"""A trial: a few masks are read before anything is written, so that wrong settings are known at once."""

import numpy as np
import pandas as pd

from preprocess.config import PreprocessConfig
from preprocess.index import planned_items
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES

_TRIED = 8


def try_masks(layout: str, files: RawFiles, plan: pd.DataFrame, config: PreprocessConfig) -> None:
    """Raises ValueError if the mask files of all of some examples are bad: the settings must be wrong, not the files.

    Annotations in tables and volumes were read for the index already.

    Args:
      layout: key of `SOURCES`.
      files: the raw dataset.
      plan: as `make_plan` returns it.
      config: settings.
    """
    rows = plan[(plan["status"] == "in") & plan["slice_index"].isna() & plan["mask"].notna()].drop_duplicates("image")
    if config.unlabeled or SOURCES[layout].count_foreground or rows.empty:
        return
    rows = rows.iloc[np.linspace(0, len(rows) - 1, min(_TRIED, len(rows))).astype(int)]
    errors = []
    for item, row in planned_items(rows, {}):
        try:
            SOURCES[layout].read_masks(files, item, row["height"], row["width"], config)
            return
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(f"none of {len(errors)} masks that were tried could be read, nothing was written: {errors[0]}")
