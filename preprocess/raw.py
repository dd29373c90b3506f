"""The raw dataset as a tree of files, whether it is a directory or a zip.

A zip is read in place. Paths are relative to the dataset's root, with slashes, so the same dataset has the same
paths as directory and as zip, and gives the same records.
"""

import hashlib
import json
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

T = TypeVar("T")

_LITTER = ("__MACOSX", "Thumbs.db")
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)


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
        self._loaded: dict[Callable, tuple[str, Any]] = {}
        self._checksums: dict[str, int] = {}
        path = Path(root)
        if path.is_dir():
            return
        if not path.exists():
            raise ValueError(f"{root}: expected a directory or a zip, found nothing there")
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{root}: expected a directory or a zip, found another kind of file")
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
            raise ValueError(f"{root}: the zip is damaged: {error}; fetch it anew") from error
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
        """Yields the path of every file, directory by directory, without hidden files and litter.

        Raises:
          ValueError: a name is not text in UTF-8, so no record could hold it.
        """
        for directory, files in self._directories():
            prefix = f"{directory}/" if directory else ""
            if not _is_litter(directory):
                for path in (prefix + file for file in sorted(files) if not _is_litter(file)):
                    if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path):
                        raise ValueError(f"{self.root}: the file name {os.fsencode(path)!r} is not UTF-8; rename it")
                    yield path

    def list_directory(self, directory: str) -> list[str]:
        """Returns the paths of the files in one directory, sorted; none if there is no such directory."""
        if self._children is not None:
            files = self._children.get(directory, [])
        else:
            try:
                with os.scandir(Path(self.root, directory)) as entries:
                    files = [entry.name for entry in entries if entry.is_file()]
            except (FileNotFoundError, NotADirectoryError):
                files = []
        return [f"{directory}/{file}" for file in sorted(files) if not _is_litter(file)]

    def read(self, path: str) -> bytes:
        """Returns a file's bytes.

        Raises:
          ValueError: it cannot be read (permission, damaged or encrypted zip member).
        """
        data = self._read(path)
        self._checksums[path] = zlib.crc32(data)
        return data

    def load(self, path: str, decode: Callable[[bytes], T]) -> T:
        """Returns `decode` of a file's bytes. The last file of each decoder stays in memory.

        So a volume is decompressed once for all of its slices.

        Raises:
          ValueError: it cannot be read, or not be decoded; the message names the file.
        """
        if self._loaded.get(decode, ("", None))[0] != path:
            self._loaded.pop(decode, None)  # two volumes at a time could be too many
            try:
                self._loaded[decode] = (path, decode(self.read(path)))
            except ValueError as error:
                self._loaded[decode] = (path, ValueError(f"{path}: {error}"))
        result = self._loaded[decode][1]
        if isinstance(result, ValueError):
            raise result
        return result

    def _read(self, path: str) -> bytes:
        try:
            if self._zip:
                return self._zip.read(path)
            # Strings, because a Path costs as much as reading a small mask.
            name = f"{self.root}/{path}"
            if not os.path.isfile(name):  # noqa: PTH113
                raise ValueError("cannot be read: there is no regular file")  # a pipe would keep us waiting for ever
            with open(name, "rb") as file:  # noqa: PTH123
                return file.read()
        except (OSError, KeyError, RuntimeError, NotImplementedError, EOFError, *_DAMAGED) as error:
            raise ValueError(f"cannot be read: {error}") from error

    def content_hash(self, path: str) -> str:
        """Returns a hash of a file's bytes, or of names and bytes of the files directly in a directory.

        A zip knows its members' checksums, so nothing is read from it. What cannot be read counts as 0.
        """
        return self._content_hash(path, self._crc32)

    def content_hash_as_read(self, path: str) -> str:
        """Returns the content hash with the bytes that `read` met since `forget_reads`, if it met the file."""
        return self._content_hash(path, lambda file: self._checksums.get(file) or self._crc32(file))

    def forget_reads(self) -> None:
        """Forgets what was read, but for what `load` keeps."""
        self._checksums = {path: self._checksums[path] for path, _ in self._loaded.values()}

    def _content_hash(self, path: str, crc32: Callable[[str], int]) -> str:
        sums = [(file.rpartition("/")[2], crc32(file)) for file in self.list_directory(path) or [path]]
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()

    def _crc32(self, path: str) -> int:
        try:
            return self._zip.getinfo(path).CRC if self._zip else zlib.crc32(self._read(path))
        except (ValueError, KeyError):
            return 0

    def _directories(self) -> Iterator[tuple[str, list[str]]]:
        """Yields (path, file names) of every directory, a directory before its own, neighbours by name."""
        if self._children is not None:
            yield from sorted(self._children.items(), key=lambda item: item[0].split("/") if item[0] else [])
            return

        def refuse(error):
            raise ValueError(f"{error.filename}: the directory cannot be read: {error.strerror}") from error

        for directory, folders, files in os.walk(self.root, onerror=refuse, followlinks=True):
            folders[:] = sorted(name for name in folders if not _leads_back(directory, name))
            relative = Path(directory).relative_to(self.root).as_posix()
            yield ("" if relative == "." else relative), files


def _is_litter(path: str) -> bool:
    return any(part in _LITTER or (part.startswith(".") and part != ".") for part in path.split("/"))


def _leads_back(directory: str, name: str) -> bool:
    """Returns whether a link leads to a directory that holds it, so that following it would never end."""
    path = Path(directory, name)
    return path.is_symlink() and Path(directory).resolve().is_relative_to(path.resolve())


def _check_member(root: str, name: str, seen: set[str]) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name) or "\0" in name:
        raise ValueError(
            f"{root}: the member {name!r} leads outside of the zip; such a file is not to be trusted, remove the member"
        )
    if name in seen:
        raise ValueError(f"{root}: the member {name!r} is there twice; keep one of the two")
    seen.add(name)
