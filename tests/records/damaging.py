"""Small records whose places are known, and ways to damage them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imaging.codec import encode_png
from records.damage import find_damage, stored_records
from records.mend import mend
from records.schema import encode
from records.shards import FRAME_BYTES, Shard

KEYS = ["a0", "a1", "a2", "a3"]


def write_offsets(folder: Path, records_by_shard: dict[Shard, list]) -> None:
    rows = []
    for shard, records in records_by_shard.items():
        offset = 0
        for position, record in enumerate(records):
            rows.append((record.source_id, shard.split, shard.name, position, offset))
            offset += FRAME_BYTES + len(encode(record))
    columns = ["key", "split", "shard", "position", "offset"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "offsets.parquet", index=False)


def first_file(folder, info):
    return info.shard_files(str(folder), ["train"])[0]


def damage(folder, info):
    file = first_file(folder, info)
    return find_damage(file, info.stored_crc32c(file), stored_records(str(folder), file))


def mended(folder, info, out, splits=("train", "val")):
    return mend(str(folder), info, info.shard_files(str(folder), splits), out, lambda num_bytes: None)


def flip(path, bit: int) -> None:
    data = bytearray(Path(path).read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    Path(path).write_bytes(data)


def starts(bodies: list[bytes]) -> list[int]:
    return [sum(len(body) + FRAME_BYTES for body in bodies[:index]) for index in range(len(bodies))]


def owner(bodies: list[bytes], byte: int) -> tuple[int, str]:
    """Returns (record, part of its frame) that a byte of the shard belongs to."""
    index = max(index for index, start in enumerate(starts(bodies)) if start <= byte)
    within = byte - starts(bodies)[index]
    if within < 12:
        return index, "header"
    return index, "body" if within < 12 + len(bodies[index]) else "footer"


def refused(folder, info, out, splits=("train", "val")) -> str:
    with pytest.raises(ValueError) as caught:
        mended(folder, info, out, splits)
    assert not out.exists()
    return str(caught.value)


def flip_in_body(folder, info, records) -> Path:
    """Alters a byte within the body of record b1, the second of the second shard; returns the shard's path."""
    path = folder / info.shards("train")[1].name
    data = bytearray(path.read_bytes())
    data[len(encode(records["b0"])) + FRAME_BYTES + 12 + 50] ^= 1
    path.write_bytes(bytes(data))
    return path


OVERLAPPING = {"classes": ["a", "b", "c"], "overlapping": True}


def bit_fields(*values: int) -> bytes:
    mask = np.zeros((6, 10), np.uint16)
    mask[0, : len(values)] = values
    return encode_png(mask)
