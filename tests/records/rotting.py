"""A copy of records made by preprocess, and bits that flip in it."""

import os
from pathlib import Path

from records.damage import ShardCheck
from records.schema import parse
from records.shards import frame, read_shard


def rot(file, record: int = 3) -> None:
    """Flips a bit of a record's body and leaves the file's time of change."""
    path = Path(file.path)
    before = path.stat()
    bodies = list(read_shard(file.path))
    offset = sum(len(frame(body)) for body in bodies[:record]) + 12
    data = bytearray(path.read_bytes())
    data[offset + len(bodies[record]) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def key_of(folder, file, record: int = 3) -> str:
    content = parse(list(read_shard(file.path))[record], channels=3, dtype="uint8", labeled=True)
    return content["source_id"].numpy().decode()


def check(folder, info, files) -> None:
    with ShardCheck(str(folder), info, files) as shard_check:
        shard_check.finish()
