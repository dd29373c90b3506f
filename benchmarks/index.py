"""python -m benchmarks.index: time and memory of index and plan of a large table of run-length annotations.

The rows of a real table (Airbus' columns ImageId and EncodedPixels) are repeated under new ids until there are as many
as wanted. Measured in one process: reading the table, finding the items, checking and counting every annotation, the
index's rows, the plan. Images are not decoded (each stands for a file of 768x768 pixels that is not there), because
decoding has nothing to do with the number of annotations; `benchmarks.preprocess` measures it.
"""

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.table import Table

import cli
from benchmarks.measure import memory_mib, reset_peak
from preprocess.config import PreprocessConfig, Splits
from preprocess.index import find_items, index_rows, table_of_rows
from preprocess.plan import make_plan
from preprocess.raw import RawFiles
from preprocess.sources import SOURCES
from preprocess.synthetic import SyntheticConfig, write_airbus

_TABLE = "train_ship_segmentations_v2.csv"


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    table: str | None = None
    """CSV file in Airbus' form; null: a made-up one."""
    rows: int = 231_723
    """Annotation rows: as many as Airbus' own table has."""


def repeat_rows(table: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Returns the table's rows again and again, each time under new ids, until there are `rows`."""
    times = -(-rows // len(table))
    parts = [table.assign(ImageId=f"{number:04d}" + table["ImageId"]) for number in range(times)]
    return pd.concat(parts).head(rows)


def examine_nothing(files: RawFiles, item, config: PreprocessConfig) -> list[dict]:
    """Returns the facts of an image as if it were there; its hashes come from its key."""
    digest = hashlib.sha256(item.key.encode()).hexdigest()
    size = {"height": 768, "width": 768, "channels": 3, "depth": 8}
    return [size | {"image_bytes": 100_000, "sha256": digest, "perceptual_hash": digest[:16]}]


def measure(raw: str, config: BenchmarkConfig) -> Table:
    """Returns a table of the seconds and the peak memory of each step."""
    settings = PreprocessConfig(quota="0:500,1-7:1500", splits=Splits(stratify=True))
    SOURCES["airbus"] = SOURCES["airbus"]._replace(examine=examine_nothing)
    files = RawFiles(raw)
    table = Table(title=f"{config.rows} annotation rows, one process", title_justify="left")
    for heading in ("step", "seconds", "peak MiB"):
        table.add_column(heading, justify="left" if heading == "step" else "right")

    def step(name: str, function):
        reset_peak()
        start = time.monotonic()
        result = function()
        table.add_row(name, f"{time.monotonic() - start:.1f}", f"{memory_mib('VmHWM'):.0f}")
        return result

    items = step("find items", lambda: find_items("airbus", files, settings))
    # The table has no images beside it.
    items = [item._replace(image=item.key, error=None) for item in items]
    rows = step("index rows", lambda: [row for item in items for row in index_rows("airbus", files, item, settings)])
    index = step("index table", lambda: table_of_rows(rows, None))
    plan = step("plan (quota, stratified, near-duplicates)", lambda: make_plan(index, settings))
    table.caption = f"{len(items)} images, {(plan['status'] == 'in').sum()} in"
    return table


def main() -> None:
    """Parses the command line, measures, prints."""
    _, config = cli.parse(BenchmarkConfig, {}, "python -m benchmarks.index", "Index and plan of many annotations.")
    with tempfile.TemporaryDirectory() as folder:
        source = config.table
        if source is None:
            write_airbus(Path(folder, "made-up"), SyntheticConfig(images=200))
            source = Path(folder, "made-up", _TABLE)
        raw = Path(folder, "raw")
        raw.mkdir()
        repeated = repeat_rows(pd.read_csv(source, dtype=str, keep_default_na=False), config.rows)
        repeated.to_csv(raw / _TABLE, index=False)
        cli.console.print(measure(str(raw), config))


if __name__ == "__main__":
    cli.run(main)
