"""The examples of a split: all of them in batches, and single ones by key."""

import pandas as pd

from records.config import InputConfig
from records.files import join, open_file
from records.info import RecordsInfo
from records.schema import Record, decode
from records.shards import OFFSETS_FILE, read_record

_PLAN_FILE = "plan.parquet"


def split_batches(
    records: str,
    info: RecordsInfo,
    split: str,
    crop: int | None,
    batch_size: int,
    strategy,
    **how,
):
    """Returns (ShardFiles of a split, tf.data.Dataset of its batches, of equally many examples for every device).

    Args:
      records: their folder.
      info: of the records.
      split: its name.
      crop: side of the tiles; None: whole images.
      batch_size: examples at once, at least.
      strategy: tf.distribute.Strategy, the devices.
      how: whole_masks, overlap, details: see `eval_batches`, which makes the batches.
    """
    from records.input_pipeline import eval_batches  # TensorFlow's import takes seconds, and only batches need it

    replicas = strategy.num_replicas_in_sync
    files = info.shard_files(records, [split])
    rounded = -(-batch_size // replicas) * replicas
    return files, eval_batches(files, info, rounded, InputConfig(crop=crop), **how)


def check_complete(records: str, info: RecordsInfo, split: str, found: int) -> None:
    """Raises ValueError unless so many examples are all of the split."""
    if found != (total := info.splits[split].num_examples):
        raise ValueError(
            f"{records}: expected {total} examples in split {split}, found {found}; "
            "`python -m records verify` names what is wrong"
        )


def read_plan(records: str, columns: list[str], why: str) -> pd.DataFrame:
    """Returns columns of the plan beside records: a row for each image, slice or tile, also those that were left out.

    Args:
      records: their folder.
      columns: their names.
      why: what needs them, for the error.

    Raises:
      ValueError: the plan cannot be read.
    """
    path = join(records, _PLAN_FILE)
    try:
        with open_file(path) as file:
            return pd.read_parquet(file, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}), and {why} needs it; `python -m preprocess` with --overwrite "
            "makes the records anew"
        ) from error


def read_places(records: str, keys: list[str] | None = None) -> pd.DataFrame:
    """Returns where records are: by key the path of their "shard" and their "offset" in it.

    Args:
      records: their folder.
      keys: of which; None: of all.

    Raises:
      ValueError: offsets.parquet cannot be read.
    """
    path = join(records, OFFSETS_FILE)
    try:
        with open_file(path) as file:
            chosen = None if keys is None else [("key", "in", keys)]
            table = pd.read_parquet(file, columns=["key", "shard", "offset"], filters=chosen).set_index("key")
        return table.assign(shard=[join(records, shard) for shard in table["shard"]])
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}), and single records are needed; `python -m preprocess` with --overwrite "
            "makes the records anew"
        ) from error


def read_examples(records: str, keys: list[str]) -> dict[str, Record]:
    """Returns single examples by key, for pictures.

    Raises:
      ValueError: offsets.parquet, which says where they are, cannot be read.
    """
    table = read_places(records, keys)
    return {key: decode(read_record(table["shard"][key], int(table["offset"][key]))) for key in keys}
