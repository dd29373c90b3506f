"""Opening files of a records folder, local or remote."""

from pathlib import Path


def open_file(path: str, mode: str = "rb"):
    """Returns an open file.

    Local files go through the standard library, because importing TensorFlow takes seconds; a path with a scheme
    (gs://, s3://, hdfs://) goes through tf.io.gfile.
    """
    if "://" not in path:
        return Path(path).open(mode)
    import tensorflow as tf  # only remote paths need it

    return tf.io.gfile.GFile(path, mode)


def file_size(path: str) -> int | None:
    """Returns the length in bytes, or None if there is no such file."""
    if "://" not in path:
        return Path(path).stat().st_size if Path(path).is_file() else None
    import tensorflow as tf

    return tf.io.gfile.stat(path).length if tf.io.gfile.exists(path) else None


def join(folder: str, name: str) -> str:
    """Returns the path of a file in a folder; works for remote paths too, where the separator is always a slash."""
    return f"{folder.rstrip('/')}/{name}"
