"""python -m benchmarks.plan: time and memory of the plan of a large dataset.

The index is made up: every image is its own group, 1 % are near-duplicates of others, objects are counted. Peak memory
is that of the process, so the index is part of it; what making the index needed is not.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

import cli
from benchmarks.measure import memory_mib, reset_peak
from preprocess.config import PreprocessConfig
from preprocess.plan import fingerprint, make_plan

_NEAR_DUPLICATES = 0.01


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured."""

    rows: int = 10_000_000
    """Images in the index."""
    seed: int = 0
    """Of the made-up facts."""


def make_index(rows: int, seed: int) -> pd.DataFrame:
    """Returns an index of so many images with plausible facts, without a raw dataset."""
    generator = np.random.default_rng(seed)
    key = pd.Series([f"image-{number:010d}" for number in range(rows)], dtype="str")
    hashes = generator.integers(2**64, size=rows, dtype=np.uint64)
    copies = generator.choice(rows, int(rows * _NEAR_DUPLICATES), replace=False)
    flipped = np.uint64(1) << generator.integers(64, size=len(copies), dtype=np.uint64)
    hashes[copies] = hashes[generator.integers(rows, size=len(copies))] ^ flipped
    objects = generator.poisson(2.0, rows)
    size = generator.choice([256, 512, 768, 1024], rows)
    nothing = pd.Series(pd.NA, key.index, dtype="str")
    texts = {
        "key": key,
        "group": key,
        "image": "images/" + key + ".jpg",
        "mask": "masks/" + key + ".png",
        "split": nothing,
        "sha256": _random_hex(generator, rows, 64),
        "mask_hash": _random_hex(generator, rows, 64),
        "outlier": nothing,
        "perceptual_hash": pd.Series([f"{value:016x}" for value in hashes], dtype="str"),
        "error": nothing,
    }
    numbers = {
        "objects": objects,
        "foreground": objects * 300,
        "image_bytes": size * size // 4,
        "height": size,
        "width": size,
        "channels": np.full(rows, 3),
        "depth": np.full(rows, 8),
    }
    none = pd.Series(pd.NA, key.index, dtype="Int64")
    return pd.DataFrame(
        texts | {name: pd.array(values, "Int64") for name, values in numbers.items()} | {"slice_index": none}
    )


def measure(config: BenchmarkConfig) -> Table:
    """Returns a table of what one plan takes."""
    settings = PreprocessConfig()
    index = make_index(config.rows, config.seed)
    before = reset_peak()
    start, start_cpu = time.monotonic(), time.process_time()
    plan = make_plan(index, settings)
    planned, planned_cpu = time.monotonic(), time.process_time()
    fingerprint(plan, settings.content("folder"))
    marked = time.monotonic()
    peak = memory_mib("VmHWM")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.parquet")
        plan.to_parquet(path, index=False, row_group_size=4096)
        size = path.stat().st_size
    table = Table(title="plan, one process", title_justify="left")
    headings = ("rows", "plan s", "CPU s", "fingerprint s", "index MiB", "peak MiB", "Parquet B/row")
    for heading in headings:
        table.add_column(heading, justify="right")
    # On a busy machine the CPU seconds are the ones to compare.
    seconds = (f"{planned - start:.1f}", f"{planned_cpu - start_cpu:.1f}", f"{marked - planned:.1f}")
    table.add_row(f"{config.rows}", *seconds, f"{before:.0f}", f"{peak:.0f}", f"{size / config.rows:.0f}")
    return table


def _random_hex(generator: np.random.Generator, rows: int, digits: int) -> pd.Series:
    text = generator.bytes(rows * digits // 2).hex()
    return pd.Series([text[start : start + digits] for start in range(0, len(text), digits)], dtype="str")


def main() -> None:
    """Parses the command line, measures, prints."""
    _, config = cli.parse(BenchmarkConfig, {}, "python -m benchmarks.plan", "Time and memory of a large plan.")
    cli.console.print(measure(config))


if __name__ == "__main__":
    cli.run(main)
