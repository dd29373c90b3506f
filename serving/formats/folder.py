"""The folder of an export: whole or not there at all, and never in the place of anything else."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METADATA = "metadata.json"
"""Its file of what is to be known of the model, see `describe`."""


def check_free(path: Path, overwrite: bool) -> None:
    """Raises ValueError unless an export may be put there.

    Args:
      path: of the export.
      overwrite: whether it may replace another export; nothing else is ever replaced.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not _is_export(path):
        raise ValueError(f"{path}: expected nothing, or an export, found something else; choose another --out")
    if not overwrite:
        raise ValueError(f"{path}: expected nothing, found an export; replace it with --overwrite")


@contextlib.contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path`, which `publish` may move there; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        folder = temporary / "new"  # the temporary folder itself is for its owner alone
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(temporary)


def publish(folder: Path, path: Path, overwrite: bool) -> None:
    """Moves a folder of `draft` to its place.

    Raises:
      ValueError: something came there meanwhile that may not be replaced.
    """
    check_free(path, overwrite)
    old = folder.with_name("old")
    if path.exists():
        path.rename(old)
    try:
        folder.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def write_metadata(folder: Path, content: dict[str, Any]) -> None:
    """Writes what other programs need to know of a model."""
    (folder / METADATA).write_text(json.dumps(content, indent=2) + "\n")


def folder_size(folder: Path) -> int:
    """Returns bytes of all files in it, without the metadata."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != METADATA)


def _is_export(path: Path) -> bool:
    try:
        return json.loads((path / METADATA).read_text())["made_by"] == "serving.export"
    except (OSError, ValueError, KeyError, TypeError):
        return False
