"""The raw dataset as a tree of files, whether it is a directory or a zip.

A zip is read in place. Paths are relative to the dataset's root, with slashes, so the same dataset has the same
paths as directory and as zip, and gives the same records.
"""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db")


class RawFiles:
    """Files of a directory or of a zip. Owns an open zip; pickles as its path.

    Raises:
      ValueError: `root` is neither, or a zip member's name leads outside of it.
    """

    def __init__(self, root: str):
        """Opens a dataset's root."""
        self.root = root
        self._zip: zipfile.ZipFile | None = None
        self._children: dict[str, list[str]] | None = None
        path = Path(root)
        if path.is_dir():
            return
        if not path.exists():
            raise ValueError(f"{root}: expected a directory or a zip, found nothing there")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{root}: expected a directory or a zip, found another kind of file")
        self._zip = zipfile.ZipFile(path)
        names = [info.filename for info in self._zip.infolist() if not info.is_dir()]
        self._children = {}
        seen = set()
        for name in names:
            _check_member(root, name, seen)
            parent, _, file = name.rpartition("/")
            self._children.setdefault(parent, []).append(file)

    def __reduce__(self):
        return RawFiles, (self.root,)

    def walk(self) -> Iterator[str]:
        """Yields the path of every file, directory by directory, without hidden files and litter."""
        for directory, files in sorted(self._directories()):
            prefix = f"{directory}/" if directory else ""
            if not _is_litter(directory):
                yield from (prefix + file for file in sorted(files) if not _is_litter(file))

    def list_directory(self, directory: str) -> list[str]:
        """Returns the paths of the files in one directory, sorted; none if there is no such directory."""
        if self._children is not None:
            files = self._children.get(directory, [])
        else:
            try:
                with os.scandir(Path(self.root, directory)) as entries:
                    files = [entry.name for entry in entries if entry.is_file()]
            except FileNotFoundError:
                files = []
        return [f"{directory}/{file}" for file in sorted(files) if not _is_litter(file)]

    def read(self, path: str) -> bytes:
        """Returns a file's bytes.

        Raises:
          ValueError: it cannot be read (permission, damaged or encrypted zip member).
        """
        try:
            return self._zip.read(path) if self._zip else Path(self.root, path).read_bytes()
        except (OSError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"cannot be read: {error}") from error

    def _directories(self) -> Iterator[tuple[str, list[str]]]:
        if self._children is not None:
            yield from self._children.items()
            return

        def refuse(error):
            raise ValueError(f"{error.filename}: the directory cannot be read: {error.strerror}") from error

        for directory, _, files in os.walk(self.root, onerror=refuse, followlinks=True):
            relative = Path(directory).relative_to(self.root).as_posix()
            yield ("" if relative == "." else relative), files


def _is_litter(path: str) -> bool:
    return any(part in _LITTER or part.startswith("._") for part in path.split("/"))


def _check_member(root: str, name: str, seen: set[str]) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise ValueError(
            f"{root}: the member {name!r} leads outside of the zip; such a file is not to be trusted, remove the member"
        )
    if name in seen:
        raise ValueError(f"{root}: the member {name!r} is there twice; keep one of the two")
    seen.add(name)
