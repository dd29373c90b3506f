"""Opening files of a records folder, local or remote."""

import io
from pathlib import Path


def open_file(path: str, mode: str = "rb"):
    """Returns an open file.

    Local files go through the standard library, because importing TensorFlow takes seconds; a path with a scheme
    (gs://, s3://, hdfs://) goes through tf.io.gfile.
    """
    if "://" not in path:
        return Path(path).open(mode)
    import tensorflow as tf  # only remote paths need it

    file = tf.io.gfile.GFile(path, mode)
    return io.BufferedReader(_RemoteFile(file)) if mode == "rb" else file


class _RemoteFile(io.RawIOBase):
    """A remote file with the methods that Arrow asks for: GFile lacks some."""

    def __init__(self, file):
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def file_size(path: str) -> int | None:
    """Returns the length in bytes, or None if there is no such file."""
    if "://" not in path:
        return Path(path).stat().st_size if Path(path).is_file() else None
    import tensorflow as tf

    return tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else None


def join(folder: str, name: str) -> str:
    """Returns the path of a file in a folder; works for remote paths too, where the separator is always a slash."""
    return f"{folder.rstrip('/')}/{name}"
