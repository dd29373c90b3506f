"""Output files: whole or not there at all.

Everything goes through Beam's filesystems, so a records folder may lie wherever Beam reaches. A file is written under
a temporary name and renamed, which survives a kill; a failed write leaves nothing behind.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

TEMPORARY_SUFFIX = ".tmp"


class ChecksummingFile:
    """A file being written: counts its bytes and their CRC32C."""

    def __init__(self, file: BinaryIO):
        """Wraps an open file."""
        self._file = file
        self.bytes = 0
        self.crc32c = 0

    def write(self, data: bytes) -> None:
        """Appends bytes."""
        self._file.write(data)
        self.bytes += len(data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[ChecksummingFile]:
    """Opens a file that appears under its name only when the block ends without an error.

    Raises:
      OSError: the storage refused (full, read-only ...); the message names the path and says what to do.
    """
    # Two tasks may write the same shard at once (a runner that retries or repeats): each has a name of its own.
    temporary = f"{path}.{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
    try:
        file = FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED)
        try:
            checksumming = ChecksummingFile(file)
            yield checksumming
        finally:
            file.close()
        rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            FileSystems.delete([temporary])
        if isinstance(error, OSError):
            cause = error.strerror or error
            raise OSError(
                f"{path}: cannot be written: {cause}; nothing half-made was left, "
                "make room or choose another folder and run the same command again"
            ) from error
        raise


def write_file(path: str, data: bytes) -> None:
    """Writes a whole file atomically."""
    with atomic_file(path) as file:
        file.write(data)


def open_file(path: str) -> BinaryIO:
    """Returns a file open for reading."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def read_file(path: str) -> bytes:
    """Returns a file's bytes."""
    with open_file(path) as file:
        return file.read()


def rename(source: str, target: str) -> None:
    """Renames a file, replacing the target."""
    try:
        FileSystems.rename([source], [target])
    except BeamIOError:
        # Object stores refuse to rename onto a file that is there.
        if not (FileSystems.exists(source) and FileSystems.exists(target)):
            raise
        FileSystems.delete([target])
        FileSystems.rename([source], [target])


def list_files(folder: str) -> dict[str, int]:
    """Returns the length in bytes of every file directly in a folder, by name; none if there is no folder."""
    try:
        matches = FileSystems.match([FileSystems.join(folder, "*")])[0].metadata_list
    except BeamIOError:
        return {}
    return {metadata.path.rstrip("/").rpartition("/")[2]: metadata.size_in_bytes for metadata in matches}


def delete_files(folder: str, names: list[str]) -> None:
    """Deletes files of a folder."""
    if names:
        FileSystems.delete([FileSystems.join(folder, name) for name in names])


def make_folder(folder: str) -> None:
    """Makes a folder unless it is there.

    Raises:
      ValueError: its path is a pattern to Beam's filesystems: to list or delete in it would reach other folders.
      OSError: it cannot be made; the message names the path.
    """
    if set(folder) & set("*?["):
        raise ValueError(f"{folder}: expected an output folder without * ? [ in its path; choose another")
    if FileSystems.exists(folder):
        return
    try:
        FileSystems.mkdirs(folder)
    except OSError as error:
        raise OSError(f"{folder}: the output folder cannot be made: {error}") from error
