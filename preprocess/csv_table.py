"""CSV files that users bring, read strictly: every cell is text, nothing is guessed or cut."""

import io

import pandas as pd


def parse_csv(data: bytes, path: str) -> pd.DataFrame:
    """Returns a CSV file's cells as text, "" where empty; blanks behind separators don't count.

    Args:
      data: the file.
      path: its name, for messages.

    Raises:
      ValueError: it is no CSV in UTF-8, or a row has more cells than the header.
    """
    try:
        # Without usecols, with which rows of too many cells would be cut in silence.
        table = pd.read_csv(
            io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        )
    except ValueError as error:  # of which pandas' own are kinds
        raise ValueError(f"{path}: expected a CSV file in UTF-8: {' '.join(str(error).split())}") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for an index
        raise ValueError(f"{path}: expected {len(table.columns)} cells in every row like the header's, found more")
    return table.fillna("")  # a row that ends early has missing cells, which are not text
