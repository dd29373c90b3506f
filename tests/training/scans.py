"""Made-up scans of three overlapping classes in folds, small enough to be learned in seconds."""

from pathlib import Path

import numpy as np
import pandas as pd

from imaging.codec import encode_png
from records.info import RecordsInfo
from records.schema import IGNORE_BIT, Record, encode
from records.shards import FRAME_BYTES, Shard
from tests.records.conftest import made_record, write_made_records

SIZE, OFFSET = 32, -32768
CLASSES = ["dense", "soft", "body"]
FOLDS = {"fold0": 7, "fold1": 5, "fold2": 7}


def make_scan(key: str, generator: np.random.Generator) -> Record:
    """Returns a scan of two discs that overlap: air is -1000 HU, dense adds 600, soft 300; body is where either is."""
    y, x = np.mgrid[:SIZE, :SIZE]
    centre = generator.integers(10, 22, 2)
    dense = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 36
    soft = (y - centre[0] - 3) ** 2 + (x - centre[1] + 4) ** 2 < 49
    values = -1000 + 600 * dense + 300 * soft + generator.normal(0, 30, [SIZE, SIZE])
    mask = (dense * 1 + soft * 2 + (dense | soft) * 4).astype(np.uint16)
    mask[:, :3] |= IGNORE_BIT
    return made_record(
        key,
        "raw",
        channels=1,
        dtype="uint16",
        image=(values - OFFSET).round().astype("<u2").tobytes(),
        mask=encode_png(mask),
        instances=None,
        objects=None,
        height=SIZE,
        width=SIZE,
        slice_index=0,
        spacing_mm=(1.0, 1.0, 5.0),
    )


def write_scans(folder: Path) -> RecordsInfo:
    """Writes records of `FOLDS`, a shard each."""
    generator = np.random.default_rng(0)
    scans = {name: [make_scan(f"{name}-{n}", generator) for n in range(count)] for name, count in FOLDS.items()}
    info = write_made_records(
        folder,
        {name: [shard] for name, shard in scans.items()},
        classes=CLASSES,
        overlapping=True,
        dtype="uint16",
        height=SIZE,
        width=SIZE,
        intensity={"offset": OFFSET, "slope": 1, "unit": "HU", "transform": "none"},
        mean=[31_900.0],
        std=[200.0],
    )
    rows = []
    for name, shard in scans.items():
        offset = 0
        for position, scan in enumerate(shard):
            rows.append((scan.source_id, Shard("made", name, 0, 1).name, position, offset))
            offset += len(encode(scan)) + FRAME_BYTES
    pd.DataFrame(rows, columns=["key", "shard", "position", "offset"]).to_parquet(folder / "offsets.parquet")
    return info
