"""Damaged shards mended: their good records are written anew, for training to go on with."""

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from records.checked import CheckedShards
from records.damage import ANEW, LostRecord, StoredRecord, find_damage, name_lost, read_frames, stored_records
from records.info import RecordsInfo
from records.shards import ShardFile, frame


@dataclass(frozen=True)
class DamagedShard:
    """A shard in the records folder that is not whole; `lost` is empty where only frames are damaged."""

    file: ShardFile
    lost: tuple[LostRecord, ...]


def mend(
    folder: str, info: RecordsInfo, files: Sequence[ShardFile], out: str | Path, report: Callable[[int], None]
) -> tuple[list[ShardFile], list[DamagedShard]]:
    """Returns files without damaged records, and the damaged shards that some of these files stand for.

    All shards are checked. Of each damaged one, the good records are written to a file of its name, the same bytes for
    the same damage always; a shard of which nothing is left is left out.

    Args:
      folder: of the records.
      info: as `read_info` returns it, with or without the check of lengths.
      files: as `RecordsInfo.shard_files` returns them.
      out: folder for the files of mended shards; made if there are any.
      report: is told how many bytes are checked.

    Raises:
      ValueError: a shard is missing or another dataset's, offsets.parquet is missing, or nothing is left of a split.
      OSError: a mended shard cannot be written.
    """
    checked, done = CheckedShards(folder, info), 0

    def count(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        report(done)

    mended, damaged = [], []
    try:
        for file in files:
            if checked.is_whole(file, count):
                mended.append(file)
                continue
            records = stored_records(folder, file)
            lost = find_damage(file, info.stored_crc32c(file), records)
            damaged.append(DamagedShard(file, lost))
            if len(lost) < file.length:
                mended.append(_write_good(file, records, lost, Path(out)))
    finally:
        checked.save()
    for split in dict.fromkeys(file.shard.split for file in files):
        if not any(file.shard.split == split for file in mended):
            raise ValueError(f"{folder}: expected a sound record in split {split!r}, found none; {ANEW}")
    return mended, damaged


def describe_lost(damaged: Sequence[DamagedShard]) -> list[str]:
    """Returns lines that say which records are skipped, a few of each shard by name; none without damage."""
    if not damaged:
        return []
    total, shards = sum(len(shard.lost) for shard in damaged), len(damaged)
    lines = [
        f"{total} damaged record{'s are' if total != 1 else ' is'} skipped (of {shards} shard{'s' * (shards > 1)}):"
    ]
    for shard in damaged:
        lines.append(f"  {shard.file.path}: {name_lost(shard.lost)}")
    return lines


def _write_good(file: ShardFile, records: Sequence[StoredRecord], lost: Sequence[LostRecord], out: Path) -> ShardFile:
    """Writes the records that are not lost, newly framed; returns the file."""
    out.mkdir(parents=True, exist_ok=True)
    path, positions = out / file.shard.name, tuple(record.position for record in lost)
    left_out = set(positions)
    # Several workers of one run may write the same file at once.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as opened:
            for position, (_, _, body, _) in enumerate(read_frames(file.path, records)):
                if position not in left_out:
                    opened.write(frame(body))
            num_bytes = opened.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return replace(file, path=str(path), length=file.length - len(positions), num_bytes=num_bytes, lost=positions)
