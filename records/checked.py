"""Which shards are whole: each is read once, and remembered by its size and time of change.

What was found whole stands in checked.json beside the records, so that the next run on them need not read them all
before it trusts them. Nothing depends on that file: without it, or where it cannot be written, shards are read again.
Remote shards are never remembered, because stores differ in what their times mean.
"""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from records.files import file_size, join
from records.info import RecordsInfo
from records.shards import Shard, ShardFile, file_crc32c

CHECKED_FILE = "checked.json"

_SECONDS_BETWEEN_SAVES = 60


class CheckedShards:
    """The shards of a records folder that are known to be whole."""

    def __init__(self, folder: str, info: RecordsInfo):
        """Reads what earlier runs remembered."""
        self._path = None if "://" in folder else Path(join(folder, CHECKED_FILE))
        self._info = info
        self._known = self._read()
        self._found: dict[str, list] = {}
        self._saved = time.monotonic()

    def is_whole(self, file: ShardFile, report: Callable[[int], None] = lambda num_bytes: None) -> bool:
        """Returns whether a shard has the length and the CRC32C of info.json, reading it unless it is remembered.

        Args:
          file: a shard as `RecordsInfo.shard_files` returns it.
          report: is told after every MiB how many bytes were added; an exception of its own ends the reading.

        Raises:
          ValueError: there is no such file, or the storage fails.
        """
        expected = self._info.stored_crc32c(file)
        try:
            size = file_size(file.path)
            if size != file.num_bytes:
                if size is None:
                    raise ValueError(
                        f"{file.path}: expected a shard, found no such file; put it back, or make "
                        "the records anew with --overwrite"
                    )
                report(file.num_bytes)
                return False
            # Before the reading: a file that changes meanwhile is read again the next time.
            mark = self._path and [size, Path(file.path).stat().st_mtime_ns, expected]
            if mark and self._known.get(file.shard.name) == mark:
                report(file.num_bytes)
                return True
            crc = file_crc32c(file.path, report)
        except OSError as error:
            raise ValueError(f"{file.path}: cannot be read ({error}); mend the storage") from error
        whole = crc == expected
        if whole and mark:
            self._found[file.shard.name] = mark
            if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
                self.save()
        return whole

    def save(self) -> None:
        """Remembers what was found, where the folder can be written."""
        if not self._found:
            return
        self._saved = time.monotonic()
        # Another run may have saved since. If two save at once one's shards are forgotten, which costs a reading.
        content = self._read() | self._found
        temporary = self._path.with_name(f"{CHECKED_FILE}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        try:
            temporary.write_text(json.dumps(content, indent=0) + "\n")
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def forget(self) -> None:
        """Trusts nothing that was found before: a shard has rotted without a change of its time."""
        self._known, self._found = {}, {}
        if self._path:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, list]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return {name: mark for name, mark in content.items() if Shard.parse(name)} if isinstance(content, dict) else {}
