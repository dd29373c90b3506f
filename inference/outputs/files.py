"""Files that are whole or not there at all, so that a full disk leaves nothing that looks finished."""

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write bytes to, which takes its place when it is left without an error."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file."""
    with whole_file(path) as file:
        file.write(data)


def csv_rows(rows: Iterable[Iterable]) -> bytes:
    """Returns rows of a CSV file in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Names of files need not be text in UTF-8; their bytes stay what they are.
    return text.getvalue().encode("utf-8", "surrogateescape")
